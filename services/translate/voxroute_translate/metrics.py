"""What the translation service measures besides its calls and batches."""

from functools import partial

from prometheus_client import CollectorRegistry, Counter

from voxroute_translate.translation import CallStats, ItemResult, Status


class TranslateMetrics:
    """The metrics that only the translation service has."""

    def __init__(self, registry: CollectorRegistry) -> None:
        counter = partial(Counter, registry=registry)
        self.items = counter(
            "voxroute_translate_items", "Items answered, by what became of them.", ("status",)
        )
        self.sentences = counter(
            "voxroute_translate_sentences",
            "Sentences that went through a model, second tries included.",
        )
        self.queue_seconds = counter(
            "voxroute_translate_queue_seconds",
            "Time that the sentences of finished calls have waited for the device.",
        )
        self.inference_seconds = counter(
            "voxroute_translate_inference_seconds",
            "Time that the device has spent on the sentences of finished calls.",
        )
        self.terms = counter(
            "voxroute_translate_glossary_terms",
            "Glossary terms that stood in items, by whether the wanted translation came to stand.",
            ("applied",),
        )
        for applied in (True, False):
            self.terms.labels(str(applied).lower())
        for status in Status:  # zero is a value that a rate can begin from
            self.items.labels(status.name)

    def observe_item(self, result: ItemResult) -> None:
        """Counts an item that is answered, and the terms of the glossary in it."""
        self.items.labels(result.status.name).inc()
        for use in result.uses:
            self.terms.labels(str(use.applied).lower()).inc()

    def observe_call(self, stats: CallStats) -> None:
        """Counts what a call has cost that has finished."""
        self.sentences.inc(stats.sentences)
        self.queue_seconds.inc(stats.queue_s)
        self.inference_seconds.inc(stats.inference_s)
