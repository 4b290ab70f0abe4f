"""Annotations of the package are checked while `make shapes` runs the tests, shapes of tensors among them."""

import pytest
import torch
from jaxtyping import TypeCheckError

from musiclm.nn.kmeans import assign
from musiclm.nn.rvq import Quantized, ResidualVQ


def test_a_wrong_shape_is_refused(pytestconfig: pytest.Config) -> None:
    if not pytestconfig.getoption("--jaxtyping-packages"):
        pytest.skip("annotations are checked by make shapes alone")
    with pytest.raises(TypeCheckError, match="centroids"):
        assign(torch.zeros(4, 3), torch.zeros(2, 5))  # the width of rows and centroids must be the same
    with pytest.raises(TypeCheckError, match="codes"):
        ResidualVQ(dim=2, codebook_size=4, levels=1).decode(torch.zeros(3, 1))  # float codes
    with pytest.raises(TypeCheckError, match="codes"):
        Quantized(
            torch.zeros(1, 2, 5), torch.zeros(1, 3, 4).long(), torch.tensor(0.0), torch.zeros(3)
        )  # 5 and 4 frames


@pytest.mark.usefixtures("unchecked")
def test_what_the_package_refuses_itself_can_be_tested() -> None:
    with pytest.raises(RuntimeError, match="mat1 and mat2"):
        assign(torch.zeros(4, 3), torch.zeros(2, 5))
