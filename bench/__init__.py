"""What a call costs, measured: `python -m bench`.

example.py is the call that all contenders answer; cell.py the Sax cell that answers at once, instant.py its model
server; aiohttp_floor.py and grpc_floor.py the servers below which the gateway cannot go, floors.py how they are served,
threaded.py one as the replaced server was; load.py sends the load and takes the figures; contenders.py says who runs,
process.py where; report.py makes the tables.
"""
