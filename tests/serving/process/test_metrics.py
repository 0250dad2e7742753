"""The gauges and histograms of queue and batches, and the port that serves them."""

import asyncio
import threading
import urllib.request
from collections.abc import Callable, Hashable, Sequence

from voxroute_serving.device.batcher import Admission, Batcher, DeviceThread
from voxroute_serving.metrics import Metrics
from voxroute_serving.process.metrics_port import MetricsEndpoint


def value(metrics: Metrics, name: str) -> float:
    """A sample without labels."""
    found = metrics.registry.get_sample_value(name)
    assert found is not None, name
    return found


async def test_queue_and_batches_are_measured_while_they_happen() -> None:
    """The gauge is what waits for the device; each batch counts its size, wait and run."""
    metrics, device = Metrics(), DeviceThread()
    running, go = threading.Event(), threading.Event()

    def run_batch(key: Hashable, items: Sequence[int], stop: Callable[[], bool]) -> Sequence[int]:
        del key, stop
        running.set()
        assert go.wait(10)
        return items

    batcher: Batcher[int, int] = Batcher(device, run_batch, lambda _: 4, metrics.observe_batch)
    metrics.observe_queue(lambda: batcher.queued)
    first = asyncio.create_task(batcher.submit("k", 0, caller="a"))
    await asyncio.to_thread(running.wait, 10)
    assert value(metrics, "voxroute_work_queued") == 0
    others = [asyncio.create_task(batcher.submit("k", n, caller="b")) for n in range(1, 6)]
    await asyncio.sleep(0.05)
    assert value(metrics, "voxroute_work_queued") == 5
    assert value(metrics, "voxroute_batch_size_count") == 0
    go.set()
    await asyncio.gather(first, *others)
    assert await device.close(5)
    assert value(metrics, "voxroute_work_queued") == 0
    assert value(metrics, "voxroute_batch_size_count") == 3  # 1, then 4, then 1
    assert value(metrics, "voxroute_batch_size_sum") == 6
    assert value(metrics, "voxroute_batch_queue_seconds_sum") >= 0.05
    assert value(metrics, "voxroute_batch_inference_seconds_sum") >= 0.05


async def test_calls_in_flight_follow_the_admission() -> None:
    """The gauges are what the admission holds at the moment of looking."""
    metrics, admission = Metrics(), Admission(3)
    metrics.observe_admission(admission)
    assert value(metrics, "voxroute_calls_capacity") == 3
    async with admission.permit(), admission.permit():
        assert value(metrics, "voxroute_calls_in_flight") == 2
    assert value(metrics, "voxroute_calls_in_flight") == 0


async def test_the_endpoint_serves_the_page_and_frees_its_port() -> None:
    """The page has the version; the same port can be taken again after close."""
    endpoint = MetricsEndpoint(Metrics(service_version="1.2.3").registry, "127.0.0.1:0")

    def page() -> str:
        with urllib.request.urlopen(f"http://{endpoint.address}/metrics", timeout=5) as answer:
            return answer.read().decode()

    assert 'voxroute_build_info{version="1.2.3"} 1.0' in await asyncio.to_thread(page)
    await asyncio.to_thread(endpoint.close)
    again = MetricsEndpoint(Metrics().registry, endpoint.address)
    await asyncio.to_thread(again.close)
