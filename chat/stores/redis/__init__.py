"""Redis: what makes lists and short resumes fast, and nothing that could not be rebuilt.

* `{ns}:room:{room}`   hash: what a room is, and where its log stands, true at its field `seq`
* `{ns}:rooms`         sorted set of rooms by the log time of their last event
* `{ns}:tail:{room}`   sorted set by seq: the last 200 events of an active room, as they stand in the log; dense
* `{ns}:whole`         hash with a field for every partition of the log whose rooms are all there
* `{ns}:rebuilding`    hash with a field for every partition that is being rebuilt: which attempt does it

Nothing is written that is older than what is there: the scripts compare seqs, so replays and late copies change
nothing. When Redis loses its memory, `whole` is gone with it: readers go to Cassandra and the projector rebuilds.

Redis may be away at any time and for long. Readers then lose one short time limit in all: after a failure nothing is
asked for a while (the circuit is open), and then by one of them.
"""

from chat.stores.redis.reading import Directory, RecentTail
from chat.stores.redis.writing import Projection

__all__ = ["Directory", "Projection", "RecentTail"]
