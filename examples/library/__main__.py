"""A service that is not saxgw's own, over gRPC and as JSON over HTTP: `python -m examples.library`.

library.proto says what there is; this module keeps the books. Run it from the root of the repository, where the proto
is found, with grpcio-tools installed; a service of yours would import the code that protoc has generated for it.
"""

from __future__ import annotations

import asyncio
from typing import Any

import click
import grpc
from google.api.httpbody_pb2 import HttpBody
from google.protobuf.empty_pb2 import Empty

from saxgw.doors.grpc import GrpcDoor
from saxgw.doors.http import HttpDoor
from saxgw.rpc.call import Call
from saxgw.rpc.endpoint import make_endpoints
from saxgw.rpc.interceptors import report_unexpected, require_fields
from saxgw.rpc.status import Code, RpcError, invalid_argument

pb: Any = grpc.protos("examples/library/library.proto")


class Library:
    """The handlers: one for each method of the service, by the method's name in snake_case."""

    def __init__(self) -> None:
        self._shelves: dict[str, Any] = {}
        self._books: dict[str, Any] = {}
        self._covers: dict[str, HttpBody] = {}

    async def create_shelf(self, request: Any, _: Call) -> Any:
        return _add(self._shelves, pb.Shelf(name=f"shelves/{request.shelf_id}", theme=request.shelf.theme))

    async def get_shelf(self, request: Any, _: Call) -> Any:
        return _find(self._shelves, request.name)

    async def list_shelves(self, _request: Any, _: Call) -> Any:
        return pb.ListShelvesResponse(shelves=[self._shelves[name] for name in sorted(self._shelves)])

    async def create_book(self, request: Any, _: Call) -> Any:
        _find(self._shelves, request.parent)
        return _add(self._books, _renamed(request.book, f"{request.parent}/books/{request.book_id}"))

    async def get_book(self, request: Any, _: Call) -> Any:
        return _find(self._books, request.name)

    async def list_books(self, request: Any, _: Call) -> Any:
        return pb.ListBooksResponse(
            books=[book for name, book in sorted(self._books.items()) if _is_wanted(book, request)]
        )

    async def update_book(self, request: Any, _: Call) -> Any:
        book = _find(self._books, request.book.name)
        if not request.update_mask.IsValidForDescriptor(pb.Book.DESCRIPTOR):
            raise invalid_argument([("update_mask", "names a field that books do not have")])
        request.update_mask.MergeMessage(request.book, book, replace_message_field=True)
        return book

    async def move_book(self, request: Any, _: Call) -> Any:
        _find(self._shelves, request.to)
        book = _find(self._books, request.name)
        moved = _add(self._books, _renamed(book, f"{request.to}/books/{book.name.rpartition('/')[2]}"))
        del self._books[request.name]
        return moved

    async def delete_book(self, request: Any, _: Call) -> Empty:
        _find(self._books, request.name)
        del self._books[request.name]
        return Empty()

    async def put_cover(self, request: Any, _: Call) -> Empty:
        _find(self._books, request.name)
        self._covers[request.name] = request.picture
        return Empty()

    async def get_cover(self, request: Any, _: Call) -> HttpBody:
        return _find(self._covers, request.name)


def _find(things: dict[str, Any], name: str) -> Any:
    if name not in things:
        raise RpcError(Code.NOT_FOUND, f"there is no {name}")
    return things[name]


def _add(things: dict[str, Any], thing: Any) -> Any:
    if thing.name in things:
        raise RpcError(Code.ALREADY_EXISTS, f"there is a {thing.name} already; choose another id")
    things[thing.name] = thing
    return thing


def _renamed(book: Any, name: str) -> Any:
    copy = pb.Book()
    copy.CopyFrom(book)
    copy.name = name
    return copy


def _is_wanted(book: Any, wanted: Any) -> bool:
    return (
        book.name.startswith(f"{wanted.parent}/" if wanted.parent else "")
        and wanted.author.name in ("", book.author.name)
        and (not wanted.titles or book.title in wanted.titles)
        and all(book.labels.get(key) == value for key, value in wanted.labels.items())
        and book.published.ToNanoseconds() >= wanted.published_after.ToNanoseconds()
    )


async def serve(http_port: int, grpc_port: int) -> None:
    """Serves an empty library until cancelled."""
    service = pb.DESCRIPTOR.services_by_name["Library"]
    endpoints = make_endpoints(service, Library(), [report_unexpected], [require_fields])
    async with HttpDoor(endpoints, "127.0.0.1", http_port) as http, GrpcDoor(endpoints, "127.0.0.1", grpc_port) as door:
        click.echo(f"ready: http://127.0.0.1:{http.port} and grpc 127.0.0.1:{door.port}")
        await asyncio.Event().wait()


@click.command()
@click.option("--http-port", default=8080, show_default=True)
@click.option("--grpc-port", default=50052, show_default=True)
def main(http_port: int, grpc_port: int) -> None:
    """Serve a library over gRPC and as JSON over HTTP."""
    asyncio.run(serve(http_port, grpc_port))


if __name__ == "__main__":
    main()
