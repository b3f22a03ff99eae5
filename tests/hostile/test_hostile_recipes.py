"""Recipes and settings of strangers."""

import pytest

NESTED = "[" * 3000 + "]" * 3000

TEXTS = {
    "empty": "",
    "null": "null",
    "a word": "recipe",
    "a list": "- title: x",
    "two documents": "title: a\n---\ntitle: b\n",
    "binary": "\x00\x01\x02",
    "tabs": "title:\n\t- x",
    "unclosed": 'title: "x',
    "python call": "title: !!python/object/apply:os.system ['true']",
    "python name": "title: !!python/name:os.system",
    "python object": "title: !!python/object/new:type [x, [], {}]",
    "python module": "title: !!python/module:os",
    "unknown tag": "title: !secret x",
    "tag of the whole": "!!python/dict {title: x}",
    "anchor bomb": "a: &a [x, x]\nb: &b [*a, *a]\nc: &c [*b, *b]\ntitle: *c",
    "anchor to itself": "a: &a [*a]",
    "merge": "base: &b {title: x}\n<<: *b",
    "deep lists": f"title: {NESTED}",
    "deep mappings": "title: " + "{a: " * 3000 + "1" + "}" * 3000,
    "huge number": "seed: 1" + "0" * 5000,
    "numbers as keys": "1: 2",
    "lists as keys": "[1, 2]: 3",
    "null as a key": "~: 3",
    "key with a line break": '"a\\nb": 3',
    "escape codes": 'title: x\n"\\e[31m": 3',
    "itself": "extends: mine.yaml",
    "extends a list": "extends: [a, b]",
    "extends nothing": "extends: nowhere.yaml",
    "extends a device": "extends: /dev/zero.yaml",
    "extends outside": "extends: ../../../../../../../../etc/passwd.yaml",
    "extends no name": "extends: demo/../demo/brain",
}

SETTINGS = [
    "teacher.batch=0",
    "teacher.batch=-4",
    "teacher.batch=1.5",
    "teacher.batch=null",
    "teacher.batch=[]",
    "teacher.batch=9999999999999999999999",
    "teacher.images=.nan",
    "teacher.optimizer=adam",
    "teacher.optimizer.lr=.nan",
    "teacher.optimizer.lr=.inf",
    "teacher.optimizer.lr=-1",
    "teacher.network.name=os.system",
    "teacher.network={}",
    "teacher.network.channel_mult=[]",
    "teacher.network.channel_mult=[0]",
    "teacher.network.model_channels=0",
    "teacher.network.model_channels=-8",
    "teacher.objective.name=__class__",
    "teacher.objective.__class__=x",
    "teacher.__init__.__globals__=x",
    "teacher.ema_halflife=-1",
    "data.images=3",
    "data.images.operator={name: inpainting, missing: 2}",
    "data.images.operator={name: inpainting, missing: .nan}",
    "data.images.size=0",
    "data.images.size=100000000",
    "data.images.source=[digits]",
    "data.images.split={train: 2}",
    "data.store=3",
    "distill.loss.name=../sid",
    "distill.loss.alpha=.nan",
    "distill.generator.betas=[1, 2, 3]",
    "distill.generator.betas=[2, 2]",
    "evaluate.samples=-1",
    "evaluate.sampler.steps=0",
    "evaluate.sampler.name=",
    "precision=7",
    "seed=x",
    "title=[]",
    "unknown=1",
    "a.b.c.d=1",
    "=1",
    "..=1",
    "teacher.batch=!!python/name:os.system",
    "teacher.batch=*a",
    "next={a: 1}",
]


@pytest.mark.parametrize("kind", TEXTS)
def test_texts(refused, tmp_path, kind):
    (tmp_path / "mine.yaml").write_text(TEXTS[kind])
    refused("train", tmp_path / "mine.yaml", "--out", tmp_path / "run", "--device", "cpu")


@pytest.mark.parametrize("setting", SETTINGS)
def test_settings(refused, tmp_path, tiny, setting):
    refused("train", tiny, "--out", tmp_path / "run", "--device", "cpu", "--set", setting)


@pytest.mark.parametrize("content", [b"\xff\xfe\x00", b"title: \xe9", b"#" * (2 << 20)])
def test_bytes(refused, tmp_path, content):
    path = tmp_path / "mine.yaml"
    path.write_bytes(content)
    for command in (["train", path, "--out", tmp_path / "run"], ["recipes", "show", path, "--resolved"]):
        refused(*command)


@pytest.mark.parametrize("device", ["gpu9", "cuda:99", "", "cpu\n", "tpu"])
def test_devices(refused, tmp_path, stores, tiny, device):
    refused("train", tiny, "--data", stores / "images", "--out", tmp_path / "run", "--device", device)
