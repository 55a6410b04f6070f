"""Zero-shot transfer between modalities (DESIGN section 5.2)."""

import numpy as np
from numpy.typing import NDArray

from sheafalign_fl.metrics.classifier import accuracy, fit_classifier, majority_accuracy
from sheafalign_fl.metrics.vectors import labelled, unit_rows
from sheafalign_fl.protocol.rows import Transfer


def transfer(
    source: str,
    target: str,
    train_z: NDArray[np.floating],
    train_labels: NDArray[np.integer],
    test_z: NDArray[np.floating],
    test_labels: NDArray[np.integer],
) -> Transfer:
    """Fit on the source's labelled TRAINING events, answer for the target's test events; the target saw no label.

    Two classifiers in the comparison space of the edge: class prototypes (the normalised mean of the normalised
    embeddings of a class; the nearest by cosine answers), and logistic regression on the normalised embeddings.

    Parameters
    ----------
    source, target
        The clients i and j.
    train_z, train_labels
        z_ij of the SOURCE's training events, shape (M, d), and labels (M,); rows with label -1 are left out.
    test_z, test_labels
        z_ji of the TARGET's test events, shape (N, d), and labels (N,); rows with label -1 are left out. Test labels
        are compared with, never fitted on.

    Raises
    ------
    ValueError
        Shapes do not fit together.
    DataError
        No test event is labelled, or the labelled training events are of fewer than two classes.
    RunError
        An embedding is not finite.
    """
    what = f"transfer {source} -> {target}"
    train, fit_labels = labelled(train_z, train_labels, f"{what}, training events")
    test, true = labelled(test_z, test_labels, f"{what}, test events")
    train, test = unit_rows(train), unit_rows(test)
    classes = np.unique(fit_labels)
    prototypes = unit_rows(np.stack([train[fit_labels == label].mean(axis=0) for label in classes]))
    return Transfer(
        source=source,
        target=target,
        events=len(true),
        prototype_accuracy=accuracy(classes[np.argmax(test @ prototypes.T, axis=1)], true),
        probe_accuracy=accuracy(fit_classifier(train, fit_labels, what).predict(test), true),
        majority=majority_accuracy(fit_labels, true),
    )
