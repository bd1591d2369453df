"""Fixtures draw the same numbers in every run, whatever ran before them."""

import zlib

import keras
import numpy as np
import pytest


def draws():
    dense = keras.layers.Dense(3)
    dense.build((None, 2))
    return keras.ops.convert_to_numpy(dense.kernel), np.random.rand()


@pytest.fixture(scope="module")
def of_the_module():
    return draws()


@pytest.fixture(scope="class")
def of_the_class():
    return draws()


class TestFixtures:
    @pytest.mark.parametrize("name", ["of_the_module", "of_the_class"])
    def test_a_fixture_of_many_tests_is_seeded_by_its_name(self, name, request):
        found = request.getfixturevalue(name)
        keras.utils.set_random_seed(zlib.crc32(name.encode()))
        for one, other in zip(found, draws(), strict=True):
            np.testing.assert_array_equal(one, other)
