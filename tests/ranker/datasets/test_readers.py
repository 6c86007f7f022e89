"""Every reader on a small file of its format, written here."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from ranker.datasets import columns, import_source
from ranker.datasets.readers import READERS
from ranker.errors import DatasetError
from ranker.schema import RankingTask

FILMS = ["Alien", "Brazil", "Casino", "Dune", "Eraserhead", "Fargo", "Gattaca", "Heat"]
SMALL = {"history": "2", "num_candidates": "3"}

Files = dict[str, str]


def make(tmp_path: Path, files: Files, encoding: str = "utf-8") -> Path:
    root = tmp_path / "source"
    root.mkdir()
    for name, content in files.items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_bytes(content.encode(encoding))
    return root


def imported(root: Path, **options: Any) -> tuple[str, list[RankingTask]]:
    plan = import_source(root, options=options)
    return plan.reader.name, list(plan.tasks())


def jsonl(*values: Any) -> str:
    return "".join(json.dumps(v) + "\n" for v in values)


def recbole() -> Files:
    rows = [f"u\t{i}\t3\t{100 + i}" for i in range(4)]
    items = [f"{i}\t{film}\t198{i}\tDrama" for i, film in enumerate(FILMS)]
    return {
        "x.inter": "\n".join(["user_id:token\titem_id:token\trating:float\ttimestamp:float", *rows]),
        "x.item": "\n".join(["item_id:token\tmovie_title:token_seq\trelease_year:token\tclass:token_seq", *items]),
    }


def recbole_sequences() -> Files:
    """A growing prefix of the user's sequence in another split file must not count twice."""
    return {
        "x.train.inter": "user_id:token\titem_id_list:token_seq\titem_id:token\nu\t0\t1\n",
        "x.test.inter": "user_id:token\titem_id_list:token_seq\titem_id:token\nu\t0 1 2\t3\n",
        "x.item": "item_id:token\ttitle:token_seq\n" + "\n".join(f"{i}\t{f}" for i, f in enumerate(FILMS)),
    }


def movielens_100k() -> Files:
    flags = "|".join("0" * 19)
    items = [f"{i}|{film} (198{i})|01-Jan-198{i}||http://x|{flags}" for i, film in enumerate(FILMS)]
    return {"u.data": "".join(f"u\t{i}\t3\t{100 + i}\n" for i in range(4)), "u.item": "\n".join(items)}


def movielens_1m() -> Files:
    return {
        "ratings.dat": "".join(f"u::{i}::3::{100 + i}\n" for i in range(4)),
        "movies.dat": "".join(f"{i}::{film} (198{i})::Action|Drama\n" for i, film in enumerate(FILMS)),
    }


def movielens_25m() -> Files:
    items = [f'{i},"{film}, The (198{i})",Drama' for i, film in enumerate(FILMS)]
    return {
        "ratings.csv": "userId,movieId,rating,timestamp\n" + "".join(f"u,{i},3.5,{100 + i}\n" for i in range(4)),
        "movies.csv": "movieId,title,genres\n" + "\n".join(items),
    }


def amazon_2018() -> Files:
    reviews = [{"reviewerID": "u", "asin": str(i), "overall": 5.0, "unixReviewTime": 100 + i} for i in range(4)]
    return {
        "Games.json": jsonl(*reviews),
        "meta_Games.json": jsonl(*[{"asin": str(i), "title": f"{f} &amp; Co"} for i, f in enumerate(FILMS)]),
    }


def amazon_2018_ratings() -> Files:
    return {
        "Games.csv": "".join(f"{i},u,5.0,{100 + i}\n" for i in range(4)),
        "meta_Games.json": jsonl(*[{"asin": str(i), "title": f} for i, f in enumerate(FILMS)]),
    }


def amazon_2023() -> Files:
    reviews = [
        {"rating": 5.0, "title": "Great", "asin": "v", "parent_asin": str(i), "user_id": "u", "timestamp": 10**12 + i}
        for i in range(4)
    ]
    return {
        "Games.jsonl": jsonl(*reviews),
        "meta_Games.jsonl": jsonl(*[{"parent_asin": str(i), "title": f, "price": None} for i, f in enumerate(FILMS)]),
    }


@pytest.mark.parametrize(
    ("files", "reader"),
    [
        (recbole, "recbole"),
        (recbole_sequences, "recbole"),
        (movielens_100k, "movielens"),
        (movielens_1m, "movielens"),
        (movielens_25m, "interactions"),
        (amazon_2018, "amazon"),
        (amazon_2018_ratings, "amazon"),
        (amazon_2023, "amazon"),
    ],
)
def test_interactions(tmp_path: Path, files: Callable[[], Files], reader: str) -> None:
    name, tasks = imported(make(tmp_path, files()), **SMALL)
    assert name == reader
    (task,) = tasks
    assert task.task_id == "user-u"
    assert [h.split()[0].strip(",") for h in task.history] == ["Alien", "Brazil"]
    assert task.relevance == {"2": 1.0}
    assert task.candidate("2").text.startswith("Casino")
    assert len({c.text for c in task.candidates}) == 3
    assert not {c.candidate_id for c in task.candidates} & {"0", "1", "3"}
    assert "&amp;" not in task.candidate("2").text


def test_long_files_are_read_in_blocks_and_blank_lines_passed_over(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    root = make(tmp_path, movielens_25m())
    _, whole = imported(root, **SMALL)
    monkeypatch.setattr(columns, "_BLOCK_LINES", 2)
    (root / "ratings.csv").write_text((root / "ratings.csv").read_text().replace("\nu,2", "\n\n\nu,2") + "\n\n")
    assert imported(root, **SMALL)[1] == whole
    with (root / "ratings.csv").open("a") as file:
        file.write("u,7,5.0\n")
    with pytest.raises(DatasetError, match=r"^ratings\.csv:10: row: 3 cells where 4 are expected"):
        imported(root, **SMALL)


def test_titles_of_movielens_are_read_in_their_own_encoding(tmp_path: Path) -> None:
    files = movielens_1m() | {"movies.dat": "".join(f"{i}::Amélie {i}::Drama\n" for i in range(8))}
    _, (task,) = imported(make(tmp_path, files, encoding="iso-8859-1"), **SMALL)
    assert task.history == ("Amélie 0", "Amélie 1")


def test_candidate_lists_beside_the_sequences(tmp_path: Path) -> None:
    files = recbole_sequences() | {"x.bm25": "u\t0 4 2 5 6 7\n", "x.pop": "u\t3 7 6 5\n"}
    root = make(tmp_path, files)
    _, (bm25,) = imported(root, **SMALL, negatives="bm25")
    _, (pop,) = imported(root, **SMALL, negatives="pop", target="last")
    assert {c.candidate_id for c in bm25.candidates} == {"2", "4", "5"}
    assert {c.candidate_id for c in pop.candidates} == {"3", "7", "6"}
    with pytest.raises(
        DatasetError, match="negatives: 'sasrec' is not here: use one of uniform, popularity, bm25, pop"
    ):
        imported(root, **SMALL, negatives="sasrec")


@pytest.mark.parametrize(
    ("name", "content", "says"),
    [
        (
            "x.inter",
            "user_id:token\titem_id:token\ttimestamp:float\nu\t1\t5\nu\t2\n",
            r"^x\.inter:3: row: 2 cells where 3",
        ),
        (
            "x.inter",
            "user_id:token\titem_id:token\ttimestamp:float\nu\t1\tsoon\n",
            r"^x\.inter:2: field 'timestamp': 'soon'",
        ),
        ("x.inter", "user_id:token\titem_id:token\ttimestamp:float\n\t1\t5\n", r"^x\.inter:2: field 'user_id': empty"),
        (
            "x.inter",
            "user_id:token\titem_id:token\ttimestamp:float\n\nu\t1\tinf\n",
            r"^x\.inter:3: field 'timestamp': 'inf'",
        ),
        ("x.inter", "user_id:token\trating:float\nu\t1\n", r"^x\.inter:1: header: no item column"),
        ("x.item", "item_id:token\ttitle:token_seq\n1\n", r"^x\.item:2: row: 1 cells under 2"),
    ],
)
def test_broken_interaction_files_are_named_by_line(tmp_path: Path, name: str, content: str, says: str) -> None:
    with pytest.raises(DatasetError, match=says):
        imported(make(tmp_path, recbole() | {name: content}), **SMALL)


ABOUT = json.dumps(
    {
        "small": {"feature": "A small model.", "input_price": 0.1, "output_price": 0.2},
        "large": {"feature": "A large model at $5.", "input_price": 5.0, "output_price": 10.0},
    }
)


def graphrouter() -> Files:
    return {
        "router.csv": "task_id,query,llm,effect,cost\n"
        "qa,Who?,small,0.5,0.1\nqa,Who?,large,0.9,0.8\nqa,What?,small,0.2,0.1\nqa,What?,large,0.9,0.9\n",
        "llms.json": ABOUT,
    }


def graphrouter_without_names() -> Files:
    files = graphrouter()
    return files | {
        "router.csv": files["router.csv"].replace(",llm,", ",").replace(",small,", ",").replace(",large,", ",")
    }


def llmrouter_rows() -> Files:
    rows = [
        {"task_name": "qa", "query": q, "model_name": m, "performance": p, "input_tokens": 10, "output_tokens": 5}
        for m, p in (("small", 0.4), ("large", 0.8))
        for q in ("Who?", "What?")
    ]
    return {"routing_data.jsonl": jsonl(*rows), "llms.json": ABOUT}


def llmrouter_scores() -> Files:
    rows = [
        {"task_name": "qa", "query": q, "scores": {"small": 0.1, "large": 1.0}, "split": "train"}
        for q in ("Who?", "What?")
    ]
    return {"scores.jsonl": jsonl(*rows), "llms.json": ABOUT}


def routerdc() -> Files:
    rows = [{"query": q, "llm_name_list": ["small", "large"], "perf_list": [0.1, 0.9]} for q in ("Who?", "What?")]
    return {"dc.jsonl": jsonl(*rows)}


def routerbench() -> Files:
    return {
        "rb.csv": "sample_id,prompt,eval_name,small,large,small|total_cost,large|total_cost\n"
        "1,Who?,qa,0.0,1.0,0.001,0.02\n2,What?,qa,0.5,1.0,0.001,0.02\n"
    }


def routellm() -> Files:
    return {"mmlu.csv": "subject,prompt,small,large\nqa,Who?,False,True\nqa,What?,False,True\n"}


@pytest.mark.parametrize(
    ("files", "reader"),
    [
        (graphrouter, "routing-long"),
        (graphrouter_without_names, "routing-long"),
        (llmrouter_rows, "routing-long"),
        (llmrouter_scores, "routing-wide"),
        (routerdc, "routing-wide"),
        (routerbench, "routing-wide"),
        (routellm, "routing-wide"),
    ],
)
def test_routing(tmp_path: Path, files: Callable[[], Files], reader: str) -> None:
    name, tasks = imported(make(tmp_path, files()))
    assert name == reader
    assert [t.query for t in tasks] == ["Who?", "What?"]
    for task in tasks:
        assert {c.candidate_id for c in task.candidates} == {"small", "large"}
        assert task.relevance == {"large": 1.0}
    if "llms.json" in files():
        assert "A large model at $5." in tasks[0].candidate("large").text
        assert "$0.1 per million input tokens" in tasks[0].candidate("small").text


def test_costs_of_token_counts_and_list_prices(tmp_path: Path) -> None:
    _, tasks = imported(make(tmp_path, llmrouter_rows()), scenario="cost")
    assert tasks[0].candidate("small").metadata["cost"] == pytest.approx((10 * 0.1 + 5 * 0.2) / 1e6)
    assert tasks[0].relevance == {"small": 1.0}


def msmarco_hub() -> Files:
    passages = {"is_selected": [0, 1, 0], "passage_text": ["Not this.", "This one.", "Nor that."], "url": ["", "", ""]}
    return {"dev.jsonl": jsonl({"query_id": 7, "query": "which?", "passages": passages, "answers": ["x"]})}


def msmarco_first() -> Files:
    texts = ("Not this.", "This one.", "Nor that.")
    passages = [{"is_selected": int(t == "This one."), "passage_text": t, "url": ""} for t in texts]
    return {"dev_v1.1.json": jsonl({"query_id": 7, "query": "which?", "passages": passages})}


def msmarco_columns() -> Files:
    """v2.1 as published: one object of columns."""
    row = json.loads(msmarco_first()["dev_v1.1.json"])
    return {"dev_v2.1.json": json.dumps({k: {"0": v} for k, v in row.items()})}


def wikiqa() -> Files:
    lines = ["QuestionID\tQuestion\tDocumentID\tDocumentTitle\tSentenceID\tSentence\tLabel"]
    for i, text in enumerate(("Not this.", "This one.", "Nor that."), start=1):
        lines.append(f"7\twhich?\tD1\tDoc\t{i}\t{text}\t{int(text == 'This one.')}")
    return {"WikiQA-dev.tsv": "\n".join(lines)}


def castorini() -> Files:
    hits = [
        {"content": t, "qid": 7, "docid": str(i), "rank": i, "score": 9.0 - i}
        for i, t in enumerate(("Not this.", "This one.", "Nor that."), start=1)
    ]
    return {"retrieve.json": json.dumps([{"query": "which?", "hits": hits}]), "qrels.txt": "7 0 2 1\n7 0 3 0\n"}


def rank_llm() -> Files:
    candidates = [
        {"docid": str(i), "score": 9.0 - i, "doc": {"contents": t}}
        for i, t in enumerate(("Not this.", "This one.", "Nor that."), start=1)
    ]
    request = {"query": {"text": "which?", "qid": "7"}, "candidates": candidates}
    return {"requests.jsonl": jsonl(request), "qrels.txt": "7 0 2 1\n"}


def beir() -> Files:
    documents = enumerate(("Which is not this.", "Which? This one.", "Which, nor that."), start=1)
    return {
        "corpus.jsonl": jsonl(*[{"_id": str(i), "title": "", "text": t} for i, t in documents]),
        "queries.jsonl": jsonl({"_id": "7", "text": "which?"}, {"_id": "8", "text": "unjudged"}),
        "qrels/test.tsv": "query-id\tcorpus-id\tscore\n7\t2\t1\n",
        "run.txt": "".join(f"7 Q0 {i} {i} {9 - i} bm25\n" for i in (1, 2, 3)),
    }


def trec() -> Files:
    texts = ("Which is not this.", "Which? This one.", "Which, nor that.")
    documents = "".join(
        f"<DOC>\n<DOCNO>{i}</DOCNO>\n<TITLE></TITLE>\n<TEXT>\n{t}\n</TEXT>\n</DOC>\n"
        for i, t in enumerate(texts, start=1)
    )
    return {
        "docs.trec": documents,
        "topics.txt": "<top>\n<num> Number: 7\n<title> which?\n<desc> Description:\nany\n</top>\n",
        "qrels.test.txt": "7 0 2 1\n7 0 1 0\n",
        "run.txt": "".join(f"7 Q0 {i} {i} {9 - i} bm25\n" for i in (1, 2, 3)),
    }


def msmarco_trec() -> Files:
    return {
        "collection.tsv": "1\tWhich is not this.\n2\tWhich? This one.\n3\tWhich, nor that.\n4\tUnlisted.\n",
        "queries.tsv": "7\twhich?\n",
        "qrels.tsv": "7\t0\t2\t1\n",
        "run.trec": "".join(f"7 Q0 {i} {i} {9 - i} bm25\n" for i in (1, 2, 3)),
    }


@pytest.mark.parametrize(
    ("files", "reader"),
    [
        (msmarco_hub, "msmarco-qna"),
        (msmarco_first, "msmarco-qna"),
        (msmarco_columns, "msmarco-qna"),
        (wikiqa, "wikiqa"),
        (castorini, "castorini"),
        (rank_llm, "castorini"),
        (beir, "collection"),
        (trec, "collection"),
        (msmarco_trec, "collection"),
    ],
)
def test_passages(tmp_path: Path, files: Callable[[], Files], reader: str) -> None:
    name, tasks = imported(make(tmp_path, files()))
    assert name == reader
    (task,) = tasks
    assert (task.task_id, task.query) == ("7", "which?")
    assert sorted(c.candidate_id for c in task.candidates) == ["1", "2", "3"]
    assert task.relevant_ids == {"2"}
    assert "This one." in task.candidate("2").text
    assert task.candidate("2").metadata["source_rank"] == 2


def test_a_collection_without_a_run_is_searched(tmp_path: Path) -> None:
    documents = {
        "d1": "wings in a slipstream",
        "d2": "heat of a slipstream",
        "d3": "boundary layers",
        "d4": "slipstream wings",
    }
    files = {
        "corpus.jsonl": jsonl(*[{"_id": i, "title": "", "text": t} for i, t in documents.items()]),
        "queries.jsonl": jsonl({"_id": "7", "text": "Wings in the slipstream?"}),
        "qrels/test.tsv": "query-id\tcorpus-id\tscore\n7\td2\t2\n",
    }
    _, (task,) = imported(make(tmp_path, files), shuffle="false")
    assert [c.candidate_id for c in task.candidates] == ["d1", "d4", "d2"]
    assert task.relevance == {"d2": 2.0}


def test_gsm8k_gets_wrong_answers_from_its_own_solution(tmp_path: Path) -> None:
    rows = [{"question": f"How many, {n}?", "answer": f"3+4=<<3+4=7>>7\n#### {n},000"} for n in range(1, 9)]
    name, tasks = imported(make(tmp_path, {"test.jsonl": jsonl(*rows)}))
    assert name == "gsm8k"
    assert len(tasks) == 8
    texts = [c.text for c in tasks[0].candidates]
    assert {"1000", "7", "3", "4"} < set(texts)
    assert len(texts) == 5
    assert texts[int(next(iter(tasks[0].relevant_ids))) - 1] == "1000"


def test_mathqa_keeps_its_options(tmp_path: Path) -> None:
    row = {
        "Problem": "1 + 1",
        "options": "a ) 1 , b ) 2, c ) 1 / 2 , d ) 3 m , e ) none",
        "correct": "b",
        "Rationale": "x",
    }
    broken = row | {"options": "a ) 1 , c ) 3"}
    name, tasks = imported(make(tmp_path, {"test.json": json.dumps([row, broken])}))
    assert name == "mathqa"
    (task,) = tasks
    assert [c.text for c in task.candidates] == ["1", "2", "1 / 2", "3 m", "none"]
    assert task.relevance == {"2": 1.0}


def test_what_nobody_recognises_says_which_readers_there_are(tmp_path: Path) -> None:
    with pytest.raises(DatasetError, match="no reader recognises it: force one with --option reader=NAME"):
        import_source(make(tmp_path, {"notes.txt": "hello"}))


def test_pickles_are_never_read(tmp_path: Path) -> None:
    with pytest.raises(DatasetError, match="pickle files can run code: convert them to Parquet or CSV"):
        import_source(make(tmp_path, {"routerbench_0shot.pkl": "x"}))


def test_reader_names_are_unique_and_described() -> None:
    assert len({r.name for r in READERS}) == len(READERS)
    assert all(r.summary and r.builder.name for r in READERS)
