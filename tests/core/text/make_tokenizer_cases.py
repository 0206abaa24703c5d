#!/usr/bin/env python3
"""Writes tokenizer_cases.json anew: small Unigram and WordPiece tokenizers, and what Hugging Face's tokenizers makes of hard strings.

    python3 tests/core/text/make_tokenizer_cases.py       needs tokenizers (seen with 0.23) and sentencepiece

They are trained on the quick start's own preferences (data/preferences.jsonl). The Precompiled table is compiled by SentencePiece from the
rules below.
"""
import base64
import json
import tempfile
from pathlib import Path

import sentencepiece
from sentencepiece import sentencepiece_model_pb2
from tokenizers import Regex, Tokenizer, decoders, models, normalizers, pre_tokenizers, processors, trainers

HERE = Path(__file__).parent
TEXTS = [
    "", " ", "a", "One day, there was a little dog named Max.", "The dog didn't bark; it's happy, isn't it?", "  two  spaces  ", "tab\tand\nlines\r\n\n",
    "Ünïcödé, naïve café, Ångström", "e\u0301 and \u00e9, n\u0303 and \u00f1", "İstanbul ǅ ﬁne ① ½ ™", "你好, world 世界", "日本語のテキスト", "한국어 텍스트",
    "Привет мир", "שלום עולם", "مرحبا", "नमस्ते", "🙂 👩‍👩‍👧 🇩🇪 e🙂e", "zero\u200bwidth\u00adhyphen\u2060joiner", "nbsp\u00a0ideographic\u3000space\u2028line",
    "control\u0001\u007f\u0085char \ufffd", "$3.50 + 2^10 = ~1,024 `code` |x| <tag>", "[CLS] x [SEP] y", "<unk> <s></s> <pad>", "▁under_score▁", "##ing ##",
    "x" * 120, "ab" * 30 + " z", "don't do not won't I'm you've they're it 's .", "Zürich–Genève “quoted” … «x»", "\u0410\u0301\u0301\u0301a\u0323\u0307",
    "fullwidth ＡＢＣ １２３", "ß ẞ ſ", "¿Qué? ¡Sí!",
]
# What the compiled table replaces, as SentencePiece's rule files say it: code points in, code points out.
RULES = {"\u3000": " ", "\u00a0": " ", "\t": " ", "\n": " ", "\u200b": "", "\u00ad": "", "\u212b": "\u00c5", "e\u0301": "\u00e9", "A\u030a": "\u00c5",
         "\ufb01": "fi", "\u2460": "1", "\u2122": "TM", "\uff21": "A", "\uff11": "1", "\u00bd": "1\u20442", "\u2026": "..."}


def corpus():
    lines = (HERE.parent.parent.parent / "data" / "preferences.jsonl").read_text(encoding="utf-8").splitlines()[:800]
    return [text for line in lines for text in json.loads(line).values() if isinstance(text, str)]


def charsmap():
    with tempfile.TemporaryDirectory() as folder:
        folder = Path(folder)
        (folder / "text").write_text("\n".join(corpus()[:200]), encoding="utf-8")
        hexadecimal = lambda text: " ".join(f"{ord(c):X}" for c in text)
        (folder / "rules.tsv").write_text("".join(f"{hexadecimal(a)}\t{hexadecimal(b)}\n" for a, b in RULES.items()), encoding="utf-8")
        sentencepiece.SentencePieceTrainer.train(input=folder / "text", model_prefix=folder / "model", vocab_size=60, minloglevel=2,
                                                 normalization_rule_tsv=folder / "rules.tsv", hard_vocab_limit=False)
        proto = sentencepiece_model_pb2.ModelProto.FromString((folder / "model.model").read_bytes())
        return proto.normalizer_spec.precompiled_charsmap


def bert(lowercase):
    tokenizer = Tokenizer(models.WordPiece(unk_token="[UNK]", max_input_chars_per_word=40 if lowercase else 100))
    if lowercase:
        tokenizer.normalizer = normalizers.BertNormalizer()
        tokenizer.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    else:
        tokenizer.normalizer = normalizers.BertNormalizer(clean_text=True, handle_chinese_chars=False, strip_accents=True, lowercase=False)
        tokenizer.pre_tokenizer = pre_tokenizers.Sequence([pre_tokenizers.Whitespace(), pre_tokenizers.Punctuation("isolated")])
    tokenizer.train_from_iterator(corpus(), trainers.WordPieceTrainer(vocab_size=260, special_tokens=["[PAD]", "[UNK]", "[CLS]", "[SEP]"]))
    tokenizer.decoder = decoders.WordPiece(cleanup=lowercase)
    if lowercase:
        tokenizer.post_processor = processors.TemplateProcessing("[CLS] $A [SEP]", special_tokens=[("[CLS]", 2), ("[SEP]", 3)])
    else:
        tokenizer.post_processor = processors.BertProcessing(("[SEP]", 3), ("[CLS]", 2))
    return tokenizer


def t5():
    tokenizer = Tokenizer(models.Unigram())
    tokenizer.normalizer = normalizers.Sequence([normalizers.Precompiled(charsmap()), normalizers.Replace(Regex(" {2,}"), " ")])
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence([pre_tokenizers.WhitespaceSplit(), pre_tokenizers.Metaspace(prepend_scheme="always")])
    tokenizer.train_from_iterator(corpus(), trainers.UnigramTrainer(vocab_size=220, special_tokens=["<pad>", "</s>", "<unk>"], unk_token="<unk>"))
    tokenizer.decoder = decoders.Metaspace()
    tokenizer.post_processor = processors.TemplateProcessing("$A </s>", special_tokens=[("</s>", 1)])
    return tokenizer


def with_bytes():
    tokenizer = Tokenizer(models.Unigram())
    tokenizer.normalizer = normalizers.Sequence([normalizers.NFKD(), normalizers.StripAccents(), normalizers.Lowercase(), normalizers.Strip()])
    tokenizer.pre_tokenizer = pre_tokenizers.Metaspace(prepend_scheme="first", split=False)
    special = ["<unk>", "<s>"] + [f"<0x{byte:02X}>" for byte in range(256)]
    tokenizer.train_from_iterator(corpus(), trainers.UnigramTrainer(vocab_size=440, special_tokens=special, unk_token="<unk>"))
    state = json.loads(tokenizer.to_str())
    state["model"]["byte_fallback"] = True
    state["added_tokens"] = state["added_tokens"][:2]
    tokenizer = Tokenizer.from_str(json.dumps(state))
    tokenizer.decoder = decoders.Sequence([decoders.Replace("▁", " "), decoders.ByteFallback(), decoders.Fuse(), decoders.Strip(" ", 1, 0)])
    return tokenizer


def cases(name, tokenizer):
    state = json.loads(tokenizer.to_str())
    if state["model"]["type"] == "Unigram":
        state["model"]["vocab"] = [[token, round(score, 4)] for token, score in state["model"]["vocab"]]
    tokenizer = Tokenizer.from_str(json.dumps(state))
    encode = []
    for text in TEXTS:
        ids = tokenizer.encode(text).ids
        encode.append({"text": text, "ids": ids, "ids_without_special": tokenizer.encode(text, add_special_tokens=False).ids,
                       "decoded": tokenizer.decode(ids, skip_special_tokens=False), "decoded_skipping_special": tokenizer.decode(ids)})
    return {"name": name, "tokenizer": state, "encode": encode}


if __name__ == "__main__":
    made = [cases("bert, uncased", bert(True)), cases("bert, cased", bert(False)), cases("unigram, compiled table", t5()), cases("unigram, bytes", with_bytes())]
    (HERE / "tokenizer_cases.json").write_text(json.dumps(made, ensure_ascii=True, separators=(",", ":")).replace('{"text"', '\n{"text"') + "\n", encoding="utf-8")
