"""The contract of a `Store`, as checks that any engine must pass.

Give a test class the checks by inheritance, and a fixture `bench`:

    class TestMyEngine(StoreContract):
        @pytest.fixture
        async def bench(self):
            bench = Bench(open_my_engine)
            await bench.open()
            yield bench
            await bench.store.close()
"""

from aldis.store.testing.bench import Bench, OpenStore
from aldis.store.testing.news import NewsContract
from aldis.store.testing.pushes import PushContract
from aldis.store.testing.queue import AccountContract, AdmitContract, ClaimContract
from aldis.store.testing.receipts import ReceiptContract

__all__ = ["Bench", "OpenStore", "StoreContract"]


class StoreContract(AccountContract, AdmitContract, ClaimContract, NewsContract, ReceiptContract, PushContract):
    """All that a store promises."""
