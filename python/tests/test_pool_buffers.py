"""Process pools: objects other than NumPy's whose buffers go out of band (PEP 574), as those of Arrow do."""

import pickle

import pytest
from test_pool import GENEROUS, identity, ours
from test_pool_memory import blocks_in_use, memory_of_results

from wigwag.pool import ProcessPool

pytestmark = pytest.mark.usefixtures("multiprocessing_helpers")


class Buffer:
    """Looks at memory that something else owns; pickled as pyarrow.Buffer is."""

    def __init__(self, source):
        self.view = memoryview(source)

    def __reduce_ex__(self, protocol):
        assert protocol >= 5
        return Buffer, (pickle.PickleBuffer(self.view),)


class Column:
    """Values, and which of them are there: None if all are, as in an array of Arrow's."""

    def __init__(self, there, values):
        self.there, self.values = there, values

    def __eq__(self, other):
        return bytes(self.values.view) == bytes(other.values.view) and (
            self.there is other.there is None or bytes(self.there.view) == bytes(other.there.view))


def column(first, size=300_000):
    return Column(None, Buffer(bytes([first]) * size))


def doubled(of):
    return Column(Buffer(b"\xff" * 1000), Buffer(bytes(of.values.view) * 2))


def first_half(of):
    return Column(None, Buffer(of.values.view[: len(of.values.view) // 2]))


def last_byte(of):
    return of.values.view[-1], of.values.view.nbytes


@ours
def test_they_arrive_whole_and_stay_where_they_are(kind):
    with ProcessPool(1, kind) as pool:
        assert pool.submit(last_byte, column(7)).result(GENEROUS) == (7, 300_000)
        same = pool.submit(identity, column(1)).result(GENEROUS)
        half = pool.submit(first_half, column(2)).result(GENEROUS)
        assert pool.submit(memory_of_results).result(GENEROUS) == 0, "both went back in place"
        several = {"one": column(3), "more": [column(4, 0), Column(Buffer(b"\x0f"), Buffer(bytearray(100_000)))]}
        assert pool.submit(identity, several).result(GENEROUS) == several
        kept = [pool.submit(doubled, column(number)).result(GENEROUS) for number in range(10)]
    assert same == column(1) and half == column(2, 150_000)
    assert all(found == doubled(column(number)) for number, found in enumerate(kept)), "they outlive the pool"


@pytest.mark.parametrize("looked_at", [0, 1])
def test_their_memory_is_used_again(looked_at):
    with ProcessPool(1) as pool:
        for _ in range(20):
            found = pool.submit(identity, column(1)).result(GENEROUS)
        assert found == column(1)
        if not looked_at:
            del found
        assert blocks_in_use(pool) == looked_at


@ours
def test_what_is_not_in_one_piece_fails_its_task_alone(kind):
    with ProcessPool(1, kind) as pool:
        torn = Column(None, Buffer(b"x" * 100_000))
        torn.values.view = torn.values.view[::2]
        with pytest.raises(pickle.PicklingError):
            pool.submit(identity, torn).result(GENEROUS)
        assert pool.submit(last_byte, column(5)).result(GENEROUS) == (5, 300_000)
