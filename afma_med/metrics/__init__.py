"""Metrics over a whole dataset, as named scalars."""

from afma_med.data.objects.sizes import SizeGroups
from afma_med.metrics.class_iou import ClassIoU
from afma_med.metrics.component_metrics import ComponentDiceMetric, ComponentPanopticQualityMetric
from afma_med.metrics.object_metrics import ObjectDetectionMetric, ObjectSizeMetric
from afma_med.metrics.per_class import ObjectDetection, PerClassMetric

__all__ = [
    "ClassIoU",
    "ComponentDiceMetric",
    "ComponentPanopticQualityMetric",
    "ObjectDetection",
    "ObjectDetectionMetric",
    "ObjectSizeMetric",
    "PerClassMetric",
    "SizeGroups",
]
