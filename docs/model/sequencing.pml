/*
 * The rules of the sequencer as a model: several writers of one partition of the event log, each of which may be slow,
 * be put out without knowing it, or die between any two steps; their snapshots; the readers of the log.
 *
 * `make model` has spin check it, and show that each rule is missed when it is left out (-DBUG=NAME). README.md says
 * what is modelled and what not, and how to read a counterexample. Comments name the code that is meant. Offsets of
 * both logs begin at 1, so that 0 means "none yet" (the code says -1). To die is to stop for ever, and nobody can tell
 * the one from the other: each state is the end of some run, so writers need no way to die.
 */
#ifndef WRITERS
#define WRITERS  3                              /* attempts to own the partition, of any processes */
#define COMMANDS 3                              /* the third is the first again, sent by a client in doubt */
#endif
#define LENGTH   (WRITERS * (COMMANDS + 1))     /* a writer appends one fence, and each answer at most once */

#define NO_FENCE                        1       /* a new owner folds to the end that it saw, and writes in that term */
#define POSITION_FROM_COMMITS           2       /* a new owner goes on at the group's committed offset */
#define KEYS_WITHOUT_TERM               3       /* rows of all writers have one key: the last one to land stays */
#define BASE_OFFSET_NOT_LOOKED_AT       4       /* a writer does not ask where its batch landed */
#define SNAPSHOT_WHEN_OUT               5       /* a writer that has learnt that it is out takes one more snapshot */
#define CHECKPOINT_BEFORE_ITS_ROWS      6
#define ROWS_OF_THE_FOLD_NOT_DIRTY      7       /* a snapshot holds only what its writer decided itself */
#define OLD_ROWS_DELETED_BEFORE_OWN     8
#define ROWS_READ_BEFORE_CHECKPOINTS    9
#define FENCE_BEFORE_ROWS              10
#define READERS_TRUST_ANY_TERM         11
#define TERM_OF_THE_LAST_TAKEN         12       /* a reader's position names the term of the last record it took */
#define STOPPED_BY_OLD_ROWS            13       /* rows older than the log's beginning are not read again */
#define SNAPSHOTS_NOT_IDEMPOTENT       14       /* a row that was sent twice may land a second time, later */
#define REACH_ALL_ANSWERED             20       /* no rules: does a run get that far? the "error" says yes */
#define REACH_LATE_CHECKPOINT          21       /* the same, after a zombie's checkpoint landed behind its heir's */
#ifndef BUG
#define BUG      0
#endif
#define WITHOUT(rule) (BUG == rule)
#ifndef SCRATCH
#define SCRATCH  hidden                          /* not part of a state */
#endif

/* ---------------------------------------------------------------------------------------------- what Kafka holds */
#define FENCE    255                            /* in place of a src; its term says who wrote it */
/* src: the command that it answers; seq: of the event, 0 in a verdict; taken: by the reader from the start */
typedef Record { byte src; byte term; byte seq; byte taken }
typedef Position { byte offset; byte src; byte term }                   /* chat/log/taking.py */
typedef Row { byte term; byte value }                                   /* agents/sequencing/rows.py; term 0: none */
#define SET(position, other) position.offset = other.offset; position.src = other.src; position.term = other.term

Record log[LENGTH + 1];
#define SET_RECORD(at, its_src, its_term, its_seq) log[at].src = its_src; log[at].term = its_term; log[at].seq = its_seq
byte end, trimmed;                              /* offset of the last record; of the last one that has been deleted */
byte commits;                                   /* the group's committed offset, on which nothing may rest */

/* Changelogs, by physical key: a term, which is one writer's. There is one room and one sender: the value of a head is
 * its last seq, that of the sender's row the seq of the event with the client id. */
Row rows[2 * WRITERS];
#define HEADS    0
#define SENDERS  WRITERS
Position checkpoints[WRITERS];
#define KEY(of_term) (WITHOUT(KEYS_WITHOUT_TERM) -> 0 : log[of_term].term)

byte begun, late_checkpoint;
SCRATCH byte i, before, value, counts, answers;          /* scratch, within one step */
SCRATCH Position reader, none;

/* -------------------------------------------------------------------------------------------------------- readers */
/* chat/log/taking.py, Taker.take: what the record after `at` is to a reader; `counts` if it is taken. */
inline take(at) {
    at.offset++; counts = 0;
    if
    :: log[at.offset].src == FENCE -> at.term = at.offset
    :: log[at.offset].src != FENCE && log[at.offset].src > at.src &&    /* first wins; and no put-out writer's: */
            (log[at.offset].term == at.term || WITHOUT(READERS_TRUST_ANY_TERM)) ->
        assert(log[at.offset].src == at.src + 1);                       /* holes stop */
        at.src = log[at.offset].src; counts = 1
    :: else
    fi
}

/* The reader from the start reads in the turn of the append. What it takes is what everybody has to take. */
Position truth;
byte truth_seq, truth_seen, last_term;
#define HAS_CLIENT_ID(of_src) (of_src == 1 || of_src == 3)

inline append(its_src, its_term, its_seq) {
    /* agents/durable.py: a reader that was killed before this record begins again at what it had committed. */
    reader.offset = end; reader.src = truth.src;
    reader.term = (WITHOUT(TERM_OF_THE_LAST_TAKEN) -> last_term : truth.term);
    end++; SET_RECORD(end, its_src, its_term, its_seq);
    take(truth); log[end].taken = counts;
    take(reader); assert(counts == log[end].taken);                     /* all readers take the same */
    printf("%d: writer %d appends src %d seq %d term %d, taken: %d\n", end, _pid, its_src, its_seq, its_term, counts);
    last_term = (counts -> its_term : last_term);
    if :: counts && its_seq -> assert(its_seq == truth_seq + 1); truth_seq = its_seq :: else fi;     /* dense, once */
    if :: counts && its_seq && HAS_CLIENT_ID(its_src) -> assert(!truth_seen); truth_seen = its_seq :: else fi;
    for (i : 0 .. WRITERS - 1) { read_from_checkpoint() }
    assert(!WITHOUT(REACH_ALL_ANSWERED) || truth.src < COMMANDS);
    assert(!WITHOUT(REACH_LATE_CHECKPOINT) || truth.src < COMMANDS || !late_checkpoint)
}

/* chat/log/tail.py: a reader may begin at any checkpoint, and takes the same from there on. */
inline read_from_checkpoint() {
    if
    :: checkpoints[i].term && checkpoints[i].offset >= trimmed ->
        SET(reader, checkpoints[i]);
        do :: reader.offset < end -> take(reader); assert(counts == log[reader.offset].taken) :: else -> break od
    :: else
    fi
}

/* -------------------------------------------------------------------------------------------------------- writers */
/* chat/rooms/state.py: each row folds alone, and may be newer than the event that is folded over it. */
inline fold(its_src, its_seq) {
    if :: its_seq > seq -> assert(its_seq == seq + 1); seq = its_seq; dirty_head = 1 :: else fi;
    if :: HAS_CLIENT_ID(its_src) && its_seq > seen -> seen = its_seq; dirty_sender = 1 :: else fi
}

/* chat/rooms/decide.py: `value` is the number of the answer, 0 for a verdict. Two versions are about: that of the odd
 * writers refuses the first command. */
inline decide(its_src) {
    if
    :: its_src == 1 && (_pid & 1) -> value = 0
    :: its_src == 3 && seen -> value = 0                                /* a repeat */
    :: else -> value = seq + 1; fold(its_src, value)
    fi
}

/* agents/engine.py, BulkRecovery, and agents/sequencing/rows.py, Column.load: of each row that of the highest term. */
inline read_checkpoints() {
    at.offset = 0; at.src = 0; at.term = 0; old_checkpoints = 0;
    for (i : 0 .. WRITERS - 1) {
        if :: checkpoints[i].term -> old_checkpoints = old_checkpoints | (1 << i) :: else fi;
        if :: checkpoints[i].term > at.term -> SET(at, checkpoints[i]) :: else fi
    }
    printf("writer %d reads checkpoint %d\n", _pid, at.offset)
}
inline read_rows(table, row, old) {
    d_step {
        row = 0; old = 0; value = 0;
        for (i : 0 .. WRITERS - 1) {
            if :: rows[table + i].term -> old = old | (1 << i) :: else fi;
            if :: rows[table + i].term > value -> value = rows[table + i].term; row = rows[table + i].value :: else fi
        }
        printf("writer %d reads table %d: %d\n", _pid, table, row)
    }
}

/* agents/sequencing/recovery.py, Restoring: from the checkpoint to the own fence. From there on no other writer's
 * record counts, and the new owner knows exactly what readers took. */
inline fold_to_fence() {
    assert(at.offset < fence || WITHOUT(NO_FENCE));                     /* else it waits for its fence for ever */
    do :: at.offset < fence -> take(at); unsnapshotted = unsnapshotted || counts;
        if :: counts && log[at.offset].seq -> fold(log[at.offset].src, log[at.offset].seq) :: else fi
    :: else -> break od;
    assert(at.src == truth.src && seq == truth_seq && seen == truth_seen || WITHOUT(FENCE_BEFORE_ROWS));
    if :: WITHOUT(ROWS_OF_THE_FOLD_NOT_DIRTY) -> dirty_head = 0; dirty_sender = 0 :: else fi;
    if :: WITHOUT(POSITION_FROM_COMMITS) -> at.src = commits :: else fi
}

/* attempt.py: decides, appends, and looks where that landed. One step, since nobody sees what is decided before it is
 * in the log, and no snapshot is taken in between. */
inline write(count) {
    before = end; answers = 0;
    do :: answers < count -> answers++; decide(at.src + answers); append(at.src + answers, at.term, value)
    :: else -> break od;
    unsnapshotted = 1;
    if
    :: before == at.offset || WITHOUT(BASE_OFFSET_NOT_LOOKED_AT) -> at.offset = end; at.src = at.src + count
    :: else ->                                  /* elsewhere than expected: a fence in between means that it is out */
        do :: at.offset < end && !out -> take(at); out = (log[at.offset].src == FENCE || counts && at.offset <= before)
        :: else -> break od
    fi;
    if :: out && !WITHOUT(SNAPSHOT_WHEN_OUT) -> SET(at, none); seq = 0; seen = 0; old_heads = 0; old_senders = 0;
        old_checkpoints = 0; dirty_head = 0; dirty_sender = 0; unsnapshotted = 0 :: else fi
}

#define PUT(table, its_value) rows[table + KEY(cap.term)].term = cap.term; rows[table + KEY(cap.term)].value = its_value
#define MAY_DELETE ((!due_head && !due_sender && !due_checkpoint) || WITHOUT(OLD_ROWS_DELETED_BEFORE_OWN))
inline delete(old, its_term) {
    for (i : 0 .. WRITERS - 1) { if :: old & (1 << i) -> its_term = 0 :: else fi }
    old = 0
}

active [WRITERS] proctype Writer() {
    Position at, cap;                           /* taken and acknowledged; the same, of the snapshot under way */
    byte seq, seen, cap_seq, cap_seen, sent_seq;                        /* rows */
    byte fence, old_heads, old_senders, old_checkpoints, del_heads, del_senders, del_checkpoints;
    bool dirty_head, dirty_sender, unsnapshotted, out, due_head, due_sender, due_checkpoint;

    atomic {                                    /* writers of one version are alike: they begin in their order */
        _pid < 2 || (begun & (1 << (_pid - 2))) -> begun = begun | (1 << _pid);
        if :: WITHOUT(FENCE_BEFORE_ROWS) -> d_step { append(FENCE, _pid, 0); fence = end } :: else fi;
        d_step { read_checkpoints() }
    }
recover:
    read_rows(HEADS, seq, old_heads); read_rows(SENDERS, seen, old_senders);
    if                                          /* recovery.py, begin_attempts */
    :: atomic {                                 /* StaleRows: newer ones must be there, and are read */
        at.offset < trimmed -> d_step { read_checkpoints() }
        assert(at.offset >= trimmed && !WITHOUT(STOPPED_BY_OLD_ROWS)); goto recover
    }
    :: d_step {
        at.offset >= trimmed ->
        if :: WITHOUT(ROWS_READ_BEFORE_CHECKPOINTS) -> read_checkpoints() :: else fi;
        if :: WITHOUT(FENCE_BEFORE_ROWS) || (WITHOUT(NO_FENCE) && truth.term) -> fence = (fence -> fence : end)
        :: else -> append(FENCE, _pid, 0); fence = end fi;
        fold_to_fence(); fence = 0
    }
    fi;
end_writing: do                                 /* attempt.py and snapshots.py run beside each other */
    :: d_step { !out && at.src < COMMANDS -> write(1) }
    :: d_step { !out && at.src + 1 < COMMANDS -> write(2) }
    :: d_step { WITHOUT(POSITION_FROM_COMMITS) && !out && at.src < COMMANDS -> commits = at.src + 1 }
    :: d_step {                                 /* Attempt.capture: acknowledged state, and what it makes needless */
        unsnapshotted && (!out || WITHOUT(SNAPSHOT_WHEN_OUT)) &&
            !due_head && !due_sender && !due_checkpoint && !del_heads && !del_senders && !del_checkpoints ->
        SET(cap, at); cap_seq = seq; cap_seen = seen;
        value = (WITHOUT(KEYS_WITHOUT_TERM) -> 0 : 255 - (1 << KEY(cap.term)));
        if :: dirty_head -> due_head = 1; del_heads = old_heads & value; old_heads = 0 :: else fi;
        if :: dirty_sender -> due_sender = 1; del_senders = old_senders & value; old_senders = 0 :: else fi;
        due_checkpoint = 1; del_checkpoints = old_checkpoints & value; old_checkpoints = 0;
        dirty_head = 0; dirty_sender = 0; unsnapshotted = 0
    }                                           /* Snapshots._write: rows, then the checkpoint, then deletions */
    :: d_step { due_head -> due_head = 0; PUT(HEADS, cap_seq); printf("writer %d's head %d lands\n", _pid, cap_seq);
        sent_seq = (WITHOUT(SNAPSHOTS_NOT_IDEMPOTENT) && !sent_seq -> cap_seq : sent_seq); cap_seq = 0 }
    :: d_step { sent_seq && !due_head -> rows[HEADS + _pid].value = sent_seq; sent_seq = 0 }
    :: d_step { due_sender && !due_head -> due_sender = 0; PUT(SENDERS, cap_seen); cap_seen = 0 }
    :: d_step { due_checkpoint && (!due_head && !due_sender || WITHOUT(CHECKPOINT_BEFORE_ITS_ROWS)) ->
        for (i : 0 .. WRITERS - 1) { late_checkpoint = late_checkpoint ||
            (WITHOUT(REACH_LATE_CHECKPOINT) && checkpoints[i].term > cap.term) }
        due_checkpoint = 0; i = KEY(cap.term); SET(checkpoints[i], cap);
        printf("writer %d's checkpoint %d lands, term %d\n", _pid, cap.offset, cap.term);
        read_from_checkpoint();
        if :: !due_head && !due_sender -> SET(cap, none) :: else fi
    }
    :: d_step { MAY_DELETE && del_heads -> delete(del_heads, rows[HEADS + i].term) }
    :: d_step { MAY_DELETE && !del_heads && del_senders -> delete(del_senders, rows[SENDERS + i].term) }
    :: d_step { MAY_DELETE && !del_heads && !del_senders && del_checkpoints ->
        delete(del_checkpoints, checkpoints[i].term) }
    od
}

/* Whoever deletes the beginning of the log: up to a checkpoint that stands in the changelog, at any time. */
active proctype Trimmer() {
end_trimming: do
    :: d_step {
        for (i : 0 .. WRITERS - 1) {
            if :: checkpoints[i].term && checkpoints[i].offset > trimmed -> trimmed = checkpoints[i].offset :: else fi
        }
        for (i : 1 .. trimmed) { if :: log[i].src != FENCE -> SET_RECORD(i, 0, 0, 0); log[i].taken = 0 :: else fi }
        printf("the log is trimmed to %d\n", trimmed)
    }
    od
}
