"""Following WatchLoc (Sax protocol §4.6)."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from saxgw.sax.addresses import WatchedAddresses
from saxgw.sax.wire import admin_pb2
from tests.sax.scripted import MODEL, changes, full_set


def watched(*answers: admin_pb2.WatchLocResponse) -> WatchedAddresses:
    watched = WatchedAddresses(MODEL)
    for answer in answers:
        watched.apply(answer)
    return watched


def test_the_first_request_starts_from_nothing() -> None:
    assert watched().request() == admin_pb2.WatchLocRequest(model_id=MODEL, seqno=0, admin_server_id="")


def test_a_request_continues_where_the_last_answer_ended() -> None:
    request = watched(full_set("a:1", next_seqno=7)).request()
    assert request == admin_pb2.WatchLocRequest(model_id=MODEL, seqno=7, admin_server_id="admin-1")


def test_a_full_set_replaces_what_was_known() -> None:
    assert watched(full_set("a:1", "b:1", next_seqno=2), full_set("c:1", next_seqno=3)).addresses == {"c:1"}


def test_changes_apply_in_order_after_the_full_set() -> None:
    answer = full_set("a:1", next_seqno=4)
    answer.result.changelog.extend(changes("+b:1", "-a:1", "-b:1", "+b:1").result.changelog)
    assert watched(answer).addresses == {"b:1"}


def test_an_empty_full_set_may_come_with_changes() -> None:
    answer = full_set(next_seqno=1)
    answer.result.changelog.extend(changes("+a:1").result.changelog)
    assert watched(full_set("old:1", next_seqno=1), answer).addresses == {"a:1"}


def test_an_address_may_be_added_twice_and_removed_though_unknown() -> None:
    assert watched(changes("+a:1", "+a:1", "-b:1", next_seqno=3)).addresses == {"a:1"}


def test_changes_of_another_admin_start_from_an_empty_set() -> None:
    old = full_set("dead:1", next_seqno=1)
    assert watched(old, changes("+a:1", admin="admin-2", next_seqno=1)).addresses == {"a:1"}


def test_the_old_addresses_stay_until_another_admin_names_one() -> None:
    old, silent = full_set("a:1", next_seqno=3), changes(admin="admin-2", next_seqno=0)
    follower = watched(old, silent)
    assert follower.addresses == {"a:1"}
    assert follower.request() == admin_pb2.WatchLocRequest(model_id=MODEL, seqno=0, admin_server_id="admin-2")
    assert follower.apply(changes("+b:1", admin="admin-2", next_seqno=1))
    assert follower.addresses == {"b:1"}


def test_a_model_published_anew_starts_from_an_empty_set() -> None:
    follower = watched(full_set("a:1", "b:1", next_seqno=5), changes(next_seqno=0))
    assert follower.addresses == {"a:1", "b:1"}
    follower.apply(changes("+c:1", next_seqno=1))
    assert follower.addresses == {"c:1"}


def test_an_unpublished_model_has_no_addresses() -> None:
    assert watched(full_set("a:1", next_seqno=1), full_set(next_seqno=0)).addresses == frozenset()


def test_apply_tells_whether_the_set_changed() -> None:
    follower = WatchedAddresses(MODEL)
    assert follower.apply(full_set("a:1", next_seqno=1))
    assert not follower.apply(full_set("a:1", next_seqno=1))
    assert not follower.apply(changes(next_seqno=1))
    assert follower.apply(changes("-a:1", next_seqno=2))


class Admin:
    """The watch of one model, as §4.6 describes what the admin keeps and answers."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.base: set[str] = set()
        self.log: list[str] = []
        self.next = 0

    def mutate(self, mutation: str) -> None:
        self.log.append(mutation)
        self.next += 1
        if len(self.log) >= 2 and len(self.log) > 2 * len(self.base):
            folded, self.log = self.log[: len(self.log) // 2], self.log[len(self.log) // 2 :]
            self.base = self._after(folded)

    def current(self) -> set[str]:
        return self._after(self.log)

    def _after(self, log: list[str]) -> set[str]:
        addresses = set(self.base)
        for mutation in log:
            (addresses.add if mutation[0] == "+" else addresses.discard)(mutation[1:])
        return addresses

    def answer(self, request: admin_pb2.WatchLocRequest) -> admin_pb2.WatchLocResponse | None:
        """The answer, or None where the admin would wait."""
        seqno = request.seqno if request.admin_server_id == self.name else 0
        start = self.next - len(self.log)
        if seqno < start:
            answer = changes(*self.log, admin=self.name, next_seqno=self.next)
            answer.result.has_fullset = True
            answer.result.values.extend(self.base)
            return answer
        if seqno < self.next:
            return changes(*self.log[seqno - start :], admin=self.name, next_seqno=self.next)
        if seqno > self.next:
            return changes(admin=self.name, next_seqno=self.next)
        return None


mutations = st.builds(str.__add__, st.sampled_from("+-"), st.sampled_from(["a:1", "b:1", "c:1", "d:1"]))
histories = st.lists(st.one_of(mutations, st.just("poll"), st.just("restart")), max_size=60)


@given(histories)
def test_after_any_history_the_set_is_the_admins(history: list[str]) -> None:
    """Whatever the admin did, restarts included, a follower that has caught up has the admin's set."""
    admin, follower, admins = Admin("admin-0"), WatchedAddresses(MODEL), 1
    for event in [*history, "poll", "poll"]:
        match event:
            case "restart":
                admin, admins = Admin(f"admin-{admins}"), admins + 1
            case "poll":
                if answer := admin.answer(follower.request()):
                    follower.apply(answer)
            case mutation:
                admin.mutate(mutation)
    assert admin.answer(follower.request()) is None
    if admin.next:
        assert follower.addresses == admin.current()
