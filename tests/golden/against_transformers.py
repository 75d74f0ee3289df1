#!/usr/bin/env python3
"""Compare perigee with transformers on random checkpoints of every family, in shapes and options beyond the golden cases.

A development tool, run by hand; nothing in the build or the tests needs it. It writes each model with save_pretrained,
runs both in f32 and prints the largest |difference| / max(1, |logit|), with perigee's prefill and decode class. The
tokenizer comes from a golden folder, since a checkpoint needs one; the ids do not pass through it.

    pip install torch transformers numpy
    eval "$(make -s env)"; python3 tests/golden/against_transformers.py [case ...]
"""
import os
import random
import shutil
import subprocess
import sys
import tempfile
import zlib

import numpy as np
import torch
import transformers as tf

GOLDEN = os.environ.get("PERIGEE_GOLDEN", "../shared/golden")
LIMIT = 1e-3
LOOK = """
local perigee, ffi = require "perigee", require "ffi"
local engine = assert(perigee.open(arg[1], { precision = "f32", threads = 2, kv_tokens = 1024, batch = 64 }))
local ids = {}
for id in arg[2]:gmatch "%d+" do ids[#ids + 1] = tonumber(id) end
local logits, rows, vocabulary = assert(engine:logits(ids, { decode = tonumber(arg[3]) }))
io.stdout:write(ffi.string(logits, rows * vocabulary * 4))
"""


def base(**more):
    return dict(dict(vocab_size=512, hidden_size=64, num_hidden_layers=3, num_attention_heads=4, num_key_value_heads=2,
                     intermediate_size=96, max_position_embeddings=640, bos_token_id=0, eos_token_id=1,
                     pad_token_id=2), **more)


def yarn(**more):
    return dict(rope_type="yarn", rope_theta=10000.0, **more)


def mla(**more):
    return base(**dict(dict(qk_nope_head_dim=12, qk_rope_head_dim=8, v_head_dim=20, kv_lora_rank=24,
                            num_key_value_heads=4, moe_intermediate_size=24), **more))


def v3(**more):
    return mla(n_routed_experts=12, num_experts_per_tok=4, n_shared_experts=1, first_k_dense_replace=1, n_group=4,
               topk_group=2, routed_scaling_factor=2.5, norm_topk_prob=True, **more)


def glm(**more):
    return base(n_routed_experts=8, num_experts_per_tok=3, moe_intermediate_size=24, **more)


GRANITE = dict(embedding_multiplier=3.0, residual_multiplier=0.5, attention_multiplier=0.2, logits_scaling=0.5,
               num_local_experts=6, num_experts_per_tok=2, intermediate_size=40)
SHORT = dict(factor=8.0, original_max_position_embeddings=64, beta_fast=32, beta_slow=1)

CASES = {
    "llama_bias": ("Llama", base(attention_bias=True, mlp_bias=True, head_dim=24, tie_word_embeddings=False)),
    "llama_linear": ("Llama", base(num_key_value_heads=1,
                                   rope_parameters=dict(rope_type="linear", factor=4.0, rope_theta=5e5))),
    "mistral_window": ("Mistral", base(sliding_window=9, head_dim=16)),
    "mixtral_window": ("Mixtral", base(sliding_window=7, num_local_experts=5, num_experts_per_tok=3)),
    "qwen2_window": ("Qwen2", base(use_sliding_window=True, sliding_window=8, max_window_layers=1, hidden_size=72,
                                   num_attention_heads=6, num_key_value_heads=3)),
    "qwen3_bias": ("Qwen3", base(attention_bias=True, head_dim=20, num_attention_heads=6, num_key_value_heads=3)),
    "qwen2moe_sparse": ("Qwen2Moe", base(decoder_sparse_step=2, norm_topk_prob=True, num_experts=6,
                                         num_experts_per_tok=2, moe_intermediate_size=40,
                                         shared_expert_intermediate_size=56, num_hidden_layers=4)),
    "qwen2moe_mlp_only": ("Qwen2Moe", base(mlp_only_layers=[0], num_experts=6, num_experts_per_tok=4,
                                           moe_intermediate_size=24, shared_expert_intermediate_size=16)),
    "qwen3moe_no_norm": ("Qwen3Moe", base(norm_topk_prob=False, num_experts=7, num_experts_per_tok=3,
                                          moe_intermediate_size=24, head_dim=12, mlp_only_layers=[1])),
    "qwen3moe_yarn": ("Qwen3Moe", base(norm_topk_prob=True, num_experts=9, num_experts_per_tok=1,
                                       moe_intermediate_size=40, head_dim=32,
                                       rope_parameters=yarn(factor=4.0, original_max_position_embeddings=32,
                                                            attention_factor=1.3))),
    "olmoe_clip": ("Olmoe", base(clip_qkv=1.5, num_experts=6, num_experts_per_tok=2, norm_topk_prob=True,
                                 intermediate_size=24)),
    "granitemoe": ("GraniteMoe", base(**dict(GRANITE, tie_word_embeddings=False))),
    "granitemoe_shared": ("GraniteMoeShared", base(shared_intermediate_size=48, **GRANITE)),
    "glm4moe_groups": ("Glm4Moe", glm(head_dim=24, partial_rotary_factor=0.5, use_qk_norm=False, n_shared_experts=2,
                                      first_k_dense_replace=1, n_group=4, topk_group=2, norm_topk_prob=True,
                                      routed_scaling_factor=1.7, attention_bias=False)),
    "glm4moe_plain": ("Glm4Moe", glm(head_dim=16, use_qk_norm=True, n_shared_experts=1, first_k_dense_replace=0,
                                     n_group=1, topk_group=1, norm_topk_prob=False, attention_bias=True)),
    "gpt_oss": ("GptOss", base(head_dim=24, num_local_experts=5, num_experts_per_tok=3, intermediate_size=40,
                               sliding_window=11, num_hidden_layers=5, num_attention_heads=6)),
    "gemma3": ("Gemma3", base(head_dim=20, sliding_window=9, num_hidden_layers=8, query_pre_attn_scalar=48,
                              num_key_value_heads=1)),
    "gemma3_types": ("Gemma3", base(head_dim=16, sliding_window=5, query_pre_attn_scalar=16,
                                    layer_types=["full_attention", "sliding_attention", "sliding_attention"])),
    "deepseek2_lite": ("DeepseekV2", mla(q_lora_rank=None, n_routed_experts=7, num_experts_per_tok=3,
                                         n_shared_experts=2, first_k_dense_replace=1, topk_method="greedy", n_group=1,
                                         topk_group=1, routed_scaling_factor=1.0)),
    "deepseek2_groups": ("DeepseekV2", mla(q_lora_rank=20, n_routed_experts=12, num_experts_per_tok=4,
                                           n_shared_experts=1, first_k_dense_replace=0, n_group=3, topk_group=2,
                                           topk_method="group_limited_greedy", routed_scaling_factor=3.0,
                                           rope_parameters=yarn(mscale=0.8, mscale_all_dim=0.6, **SHORT))),
    "deepseek3": ("DeepseekV3", v3(q_lora_rank=20)),
    "deepseek3_no_q_lora": ("DeepseekV3", v3(q_lora_rank=None,
                                             rope_parameters=yarn(mscale=1.0, mscale_all_dim=0.5, **SHORT))),
    "deepseek3_halves": ("DeepseekV3", v3(q_lora_rank=16, attention_bias=True, rope_interleave=False)),
}


def build(name, family, settings):
    """A model whose logits spread and whose router is sharp; the same one for the same name."""
    config_class = family + ("TextConfig" if family == "Gemma3" else "Config")
    config = getattr(tf, config_class)(**settings)
    config._attn_implementation = "eager"
    model = getattr(tf, family + "ForCausalLM")(config).float().eval()
    dice = torch.Generator().manual_seed(zlib.crc32(name.encode()))
    with torch.no_grad():
        for key, p in model.named_parameters():
            noise = torch.randn(p.shape, generator=dice)
            if p.dim() >= 2:
                p.copy_(noise * 1.2 / (p.shape[-1] if p.dim() == 2 else p.shape[1]) ** 0.5)
            elif "norm" in key:
                p.copy_(0.2 * noise + (0 if family == "Gemma3" else 1))
            else:
                p.copy_(0.3 * noise)
        for key, b in model.named_buffers():
            if "correction" in key:
                b.copy_(0.3 * torch.randn(b.shape, generator=dice))
    return model


def compare(name, folder):
    model = build(name, *CASES[name])
    model.save_pretrained(folder)
    for file in ("tokenizer.json", "tokenizer_config.json"):
        shutil.copy(f"{GOLDEN}/models/llama/hf/{file}", folder)
    ids = [random.Random(7 + i).randrange(3, 512) for i in range(50)]
    with torch.no_grad():
        want = model(torch.tensor([ids]), use_cache=False).logits[0].numpy()
    worst = 0.0
    for first_decode in (len(ids), 1):
        run = subprocess.run(["luajit", "-", folder, " ".join(map(str, ids)), str(first_decode)], check=False,
                             input=LOOK.encode(), capture_output=True)
        if run.returncode:
            return run.stderr.decode()
        got = np.frombuffer(run.stdout, dtype=np.float32).reshape(want.shape)
        worst = max(worst, float((np.abs(got - want) / np.maximum(1, np.abs(want))).max()))
    return worst


def main():
    failed = 0
    for name in sys.argv[1:] or CASES:
        with tempfile.TemporaryDirectory() as folder:
            result = compare(name, folder)
        fine = isinstance(result, float) and result <= LIMIT
        failed += not fine
        print(f"{name:20s} {result if isinstance(result, str) else format(result, '.1e')} {'' if fine else 'FAILED'}")
    return failed > 0


if __name__ == "__main__":
    tf.logging.set_verbosity_error()
    tf.logging.disable_progress_bar()
    sys.exit(main())
