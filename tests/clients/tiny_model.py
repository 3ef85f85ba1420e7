"""Makes a model of random numbers in the file that is named: a llama of one layer that writes bytes."""

import sys

import gguf
import numpy

EMBEDDING, HEADS, FEED_FORWARD, CONTEXT = 64, 4, 128, 4096
CONTROL = ["<unk>", "<s>", "</s>"]
BYTES = [f"<0x{byte:02X}>" for byte in range(256)]
TOKENS = CONTROL + BYTES

random = numpy.random.default_rng(1)
writer = gguf.GGUFWriter(sys.argv[1], "llama")
writer.add_name("tiny")
writer.add_context_length(CONTEXT)
writer.add_embedding_length(EMBEDDING)
writer.add_block_count(1)
writer.add_feed_forward_length(FEED_FORWARD)
writer.add_head_count(HEADS)
writer.add_head_count_kv(HEADS)
writer.add_layer_norm_rms_eps(1e-5)
writer.add_rope_dimension_count(EMBEDDING // HEADS)
writer.add_vocab_size(len(TOKENS))
writer.add_tokenizer_model("llama")
writer.add_token_list(TOKENS)
writer.add_token_scores([0.0] * len(TOKENS))
kinds = [gguf.TokenType.UNKNOWN, gguf.TokenType.CONTROL, gguf.TokenType.CONTROL] + [gguf.TokenType.BYTE] * 256
writer.add_token_types(kinds)
writer.add_unk_token_id(0)
writer.add_bos_token_id(1)
writer.add_eos_token_id(2)


def tensor(name, *shape):
    writer.add_tensor(name, random.normal(0, 0.05, shape).astype(numpy.float32))


tensor("token_embd.weight", len(TOKENS), EMBEDDING)
tensor("output.weight", len(TOKENS), EMBEDDING)
for norm in ["output_norm", "blk.0.attn_norm", "blk.0.ffn_norm"]:
    writer.add_tensor(f"{norm}.weight", numpy.ones(EMBEDDING, numpy.float32))
for part in ["attn_q", "attn_k", "attn_v", "attn_output"]:
    tensor(f"blk.0.{part}.weight", EMBEDDING, EMBEDDING)
tensor("blk.0.ffn_gate.weight", FEED_FORWARD, EMBEDDING)
tensor("blk.0.ffn_up.weight", FEED_FORWARD, EMBEDDING)
tensor("blk.0.ffn_down.weight", EMBEDDING, FEED_FORWARD)
writer.write_header_to_file()
writer.write_kv_data_to_file()
writer.write_tensors_to_file()
writer.close()
