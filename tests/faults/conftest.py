"""Nobody leaves a telephone off the hook."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest

from tests import people


@pytest.fixture(autouse=True)
async def hang_up() -> AsyncIterator[None]:
    yield
    await people.hang_up()
