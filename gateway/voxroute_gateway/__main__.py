"""`python -m voxroute_gateway`."""

from voxroute_gateway.process import serve

if __name__ == "__main__":
    serve()
