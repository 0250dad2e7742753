"""What this engine says of itself; see voxroute_serving.manifest."""

from voxroute_serving.manifest import Engine

ENGINE = Engine(name="toy", kind="asr", module="voxroute_asr_toy", devices=(), on_request=("cpu",))
