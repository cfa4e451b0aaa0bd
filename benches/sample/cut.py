#!/usr/bin/env python3
"""Cuts the sample in wordnet-2k/ out of the full set of 116,659 rows.

Use: python3 cut.py FULL_SET_DIR wordnet-2k      (needs numpy and zstdcat; the same input gives the same bytes)
"""
import json, re, subprocess, sys
import numpy as np

FULL, OUT = sys.argv[1], sys.argv[2]
ROWS, QUERIES, NEIGHBOURS = 2_000, 100, 12
DEMO = [776, 796, 208, 524, 428]  # gecko, nebula, metaphor, chamber orchestra, barbecue
# The full set keeps every word of the language; a first impression need not show the worst of them.
UNFIT = re.compile(r"\b(slur|offensive|derogatory|disparag|obscene|vulgar|ethnic|sexual|racial|negro|drugs?)", re.I)
KEYS = ["bucket", "synset", "pos", "lexname", "lemmas", "n_lemmas", "n_pointers", "gloss"]


def read(name):
    done = subprocess.run(["zstdcat", f"{FULL}/{name}"], check=True, capture_output=True, text=True)
    return [json.loads(line) for line in done.stdout.splitlines()]


def write(name, originals, payload):
    with open(f"{OUT}/{name}", "w", encoding="utf-8", newline="\n") as out:
        for i in originals:
            source = payload[i]
            assert source["text"] == ", ".join(source["lemmas"]) + ": " + source["gloss"]
            row = {"id": source["synset"], "row": int(i)} | {k: source[k] for k in KEYS}
            del row["synset"]
            out.write(json.dumps(row, ensure_ascii=False, separators=(",", ":")) + "\n")


base, queries = np.load(f"{FULL}/base.f16.npy", mmap_mode="r"), np.load(f"{FULL}/queries.f32.npy")
nearest = np.load(f"{FULL}/gt_cos.i32.npy")
payload, query_payload = read("payload.jsonl.zst"), read("query_payload.jsonl.zst")
rng = np.random.default_rng(2_000)

fit_rows = np.array([not UNFIT.search(p["text"]) for p in payload])
fit_query = lambda i: not UNFIT.search(query_payload[i]["text"]) and fit_rows[nearest[i, :NEIGHBOURS]].all()
assert all(map(fit_query, DEMO))
chosen = DEMO + [i for i in rng.permutation(len(queries)).tolist() if i not in DEMO and fit_query(i)]
chosen = chosen[:QUERIES]

rows = set(nearest[chosen, :NEIGHBOURS].ravel().tolist())
near = len(rows)
for i in rng.permutation(len(payload)).tolist():
    if len(rows) == ROWS:
        break
    if fit_rows[i]:
        rows.add(i)
rows = rng.permutation(np.array(sorted(rows)))  # shuffled: a prefix is a random part of the sample

np.save(f"{OUT}/base.f16.npy", np.ascontiguousarray(base[rows]))
np.save(f"{OUT}/queries.f16.npy", queries[chosen].astype(np.float16))
write("payload.jsonl", rows, payload)
write("query_payload.jsonl", chosen, query_payload)
print(f"{len(rows)} rows ({near} of them nearest neighbours), {len(chosen)} queries")
