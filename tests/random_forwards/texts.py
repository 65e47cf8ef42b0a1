"""What people write: operations over the whole rule table, with places for tensors, numbers and dimensions.

`{x}` and `{y}` are tensors, `{d}` is a dimension; the others are explained in `operations.py`.
"""

SMOOTH = [
    "torch.tanh({x})", "torch.sigmoid({x})", "{x}.tanh()", "{x}.sigmoid()", "torch.exp(-{x}**2)", "{x}.relu()",
    "F.relu({x})", "F.gelu({x})", "F.gelu({x}, approximate='tanh')", "F.silu({x})", "F.softplus({x})", "F.elu({x})",
    "F.leaky_relu({x}, 0.1)", "torch.sin({x})", "{x}.cos()", "{x}.abs()", "{x}**2", "{x}**3", "{x}.pow(2)", "-{x}",
    "{x}.square()", "1 / (1 + {x}**2)", "torch.log({x}**2 + 1.5)", "torch.log1p({x}**2)", "({x}**2 + 0.5).sqrt()",
    "torch.rsqrt({x}**2 + 0.5)", "({x}.abs() + 0.3) ** -0.5", "torch.erf({x})", "torch.atan({x})", "F.hardtanh({x})",
    "F.selu({x})", "F.logsigmoid({x})", "F.mish({x})", "F.softsign({x})", "F.tanhshrink({x})", "F.celu({x})",
    "{x}.clamp(-0.5, 0.8)", "{x}.clamp(min=0)", "torch.clamp({x}, max=0.4)", "torch.expm1({x} * 0.1)", "2 ** {x}.tanh()",
    "torch.where({x} > 0, {x}, 0.1 * {x})", "{x}.masked_fill({x} > 0.5, 0.0)", "({x} > 0) * {x}", "{x}.detach() * {x}",
    "torch.special.expit({x})", "F.hardswish({x})", "F.hardsigmoid({x})", "torch.exp2({x}.tanh())", "{x}.clone()",
    "{x} * torch.sigmoid(1.702 * {x})", "({x}**2 + 1.0).reciprocal()", "torch.sinh({x}.tanh())", "F.relu6({x})",
    "residual({x})", "residual({x}, torch.sin)", "normalise({x})", "gated({x}, {x})", "F.threshold({x}, 0.1, 0.2)",
    "torch.nan_to_num({x})", "{x}.negative()", "F.softshrink({x})", "F.softmin({x}, dim=-1)", "torch.sinc({x})",
]  # fmt: skip
NUMBERS = ["{x} * {c}", "{c} * {x}", "{x} + {c}", "{c} - {x}", "{x} / {c}", "{x} - {c}", "{c} / (2.0 + {x}**2)",
           "({x} + {c}) * {c}", "torch.full_like({x}, {c}) * {x}"]  # fmt: skip
CONSTANTS = ["0.5", "2", "-1.0", "3.0", "scale", "1e-2", "(1 - scale)", "1 / n", "math.sqrt(2.0)", "n"]
PAIRS = [
    "{x} + {y}", "{x} - {y}", "{x} * {y}", "{x} / ({y}**2 + 1)", "torch.maximum({x}, {y})", "torch.minimum({x}, {y})",
    "torch.where({x} > {y}, {x}, {y})", "torch.lerp({x}, {y}, 0.3)", "torch.hypot({x}, {y})", "gated({x}, {y})",
    "torch.logaddexp({x}, {y})", "torch.atan2({x}, {y}.abs() + 0.3)", "{x} * {y} - {y}", "({x} - {y}) ** 2", "{x} * (1 - {y}) + {y}",
    "torch.addcmul({x}, {x}, {y}, value=0.5)", "torch.mul({x}, {y})", "torch.sub({x}, {y}, alpha=2)", "{x}.add({y})",
    "{x}.where({y} < 0.3, {y})", "({x}.abs() + 0.5) ** {y}.tanh()", "torch.add({x}, {y}, alpha=-0.5)", "{x} * {y} * {x}",
    "torch.div({x}, {y}.exp())", "{y} / (1 + {x}.abs())", "(-{x}) * {y}", "{x} - {y} * {x} - {y}", "torch.fmax({x}, {y})",
]  # fmt: skip
REDUCED = [
    "{x}.sum({d}{k})", "{x}.mean({d}{k})", "{x}.amax({d}{k})", "{x}.amin({d}{k})", "{x}.max({d}{k}).values",
    "{x}.min({d}{k})[0]", "torch.logsumexp({x}, {d}{k})", "{x}.var({d}, unbiased=False{k})", "torch.sum({x}, dim={d}{k})",
    "({x}**2 + 0.1).prod({d}{k})", "{x}.norm(dim={d}{k})", "torch.mean({x}, {d}{k})", "{x}.var({d}{k})",
    "({x} * {x}).sum(dim={d}{k})", "{x}.std({d}{k})", "torch.max({x}, {d}{k})[0]", "{x}.median({d}{k}).values",
    "torch.linalg.norm({x}, dim={d}{k})", "torch.topk({x}, 1, dim={d}).values", "{x}.sort({d}).values", "{x}.sum(axis={d})",
]  # fmt: skip
ALONG = [
    "F.softmax({x}, dim={d})", "{x}.softmax({d})", "F.log_softmax({x}, {d})", "{x}.cumsum({d})", "{x} - {x}.mean({d}, True)",
    "{x}.exp() / {x}.exp().sum({d}, keepdim=True)", "F.normalize({x}, dim={d})", "{x}.flip({d})", "torch.roll({x}, 1, {d})",
    "({x}**2 + 0.5).cumprod({d})", "{x} - {x}.logsumexp({d}, keepdim=True)", "torch.cumsum({x}, dim={d}).tanh()",
    "{x} / ({x}.abs().sum({d}, keepdim=True) + 1e-3)", "{x} - {x}.max({d}, keepdim=True).values", "torch.flip({x}, ({d},))",
    "F.layer_norm({x}, ({x}.shape[-1],))", "{x}.repeat_interleave(2, dim={d})", "F.glu(torch.cat([{x}, {x}], {d}), {d})",
    "{x}.diff(dim={d}).sum({d}, keepdim=True) + {x}", "torch.logcumsumexp({x}, {d})",
]  # fmt: skip
VIEWED = [
    "{x}.reshape(-1)", "{x}.flatten()", "{x}.unsqueeze({e})", "{x}[None]", "{x}[..., None]", "{x}.transpose(0, -1)",
    "{x}.reshape({x}.shape[0], -1)", "{x}.squeeze()", "{x}.flatten(1)", "{x}.contiguous()", "{x}.view(-1, {x}.shape[-1])",
    "{x}.permute({p})", "{x}.movedim(0, -1)", "{x}.expand(2, *{x}.shape)", "{x}[:, None]", "{x}.repeat(2, {ones})",
    "torch.swapaxes({x}, 0, -1)", "{x}.unsqueeze(0).expand(3, {minus})", "F.pad({x}, (1, 0))", "F.pad({x}, (0, 2), value=0.5)",
    "{x}.mT", "{x}.tril()", "torch.triu({x}, 1)", "{x}.diagonal()", "{x}.unfold(-1, 2, 1)", "{x}.unflatten(0, (-1, 1))",
    "torch.diag_embed({x})", "{x}.broadcast_to(2, {sizes})", "{x}.tile(2)", "{x}.view_as({x}) * 2", "{x}.ravel()",
]  # fmt: skip
PICKED = [
    "{x}[0]", "{x}[-1]", "{x}[:, 0]", "{x}[..., -1]", "{x}[1:]", "{x}[:, 1:]", "{x}[..., :2]", "{x}[::2]", "{x}[{i}]",
    "{x}[:, {j}]", "{x}[[0, 0, -1]]", "{x}[range({x}.shape[0]), {j0}]", "{x}[torch.arange({x}.shape[0]), {j0}]",
    "{x}.index_select(0, {i})", "F.embedding({i}, {x})", "{x}[{i}, {j1}]", "{x}.gather(-1, {x}.argsort(-1))", "{x}[0, :]",
    "torch.take_along_dim({x}, {x}.argsort(0), 0)", "{x}[{x} > 0]", "{x}.masked_select({x} < 0.5)", "{x}.narrow(0, 0, 1)",
    "{x}.select(-1, 0)", "{x}[{i}][{i} * 0]", "{x}[:-1]", "{x}[None, 0]", "{x}[{i}[:, None], {j1}]", "{x}[..., {j}]",
    "{x}[0, ..., None]", "{x}[{x}.sum(-1) > 0]", "{x}.take({i})", "{x}[1]", "{x}[-2:]", "{x}[:, [0, 0]]", "{x}[({i}, 0)]",
]  # fmt: skip
JOINED = [
    "torch.cat([{x}, {y}], {d})", "torch.cat(({x}, {y}, {x}), dim={d})", "torch.stack([{x}, {y}])", "torch.hstack([{x}, {y}])",
    "torch.stack([{x}, {y}, {x}], dim=-1)", "torch.vstack(({x}, {y}))", "torch.stack([r * 2 for r in {x}])",
    "torch.cat([{x}[:1], {y}])", "torch.stack([{x}.sum(), {y}.mean()])", "sum(r.sum() for r in {x})", "torch.stack(({x}, -{y})).sum(0)",
]  # fmt: skip
PRODUCTS = [
    "{x} @ {r}", "{x} @ {r} + {b}", "torch.matmul({x}, {r})", "F.linear({x}, {r}.T)", "F.linear({x}, {r}.T, {b})",
    "{x} @ {x}.transpose(-2, -1)", "{x}.T @ {x}", "{x} @ {v}", "{v} @ {x}.transpose(-2, -1)", "torch.einsum('...i,ij->...j', {x}, {r})",
    "({x} * {v}).sum(-1)", "({x} @ {r}) @ {r}.T", "torch.einsum('...i,...i->...', {x}, {x})", "torch.outer({x}, {b})", "{x} @ {x}",
    "torch.tensordot({x}, {r}, dims=1)", "{x}.matmul({r}).relu()", "torch.dot({x}, {v})", "torch.einsum('ij,ik->jk', {x}, {x})",
    "torch.softmax({x} @ {x}.transpose(-2, -1) / {x}.shape[-1]**0.5, -1) @ {x}", "torch.mm({x}, {r})", "torch.bmm({x}, {x}.mT)",
    "torch.einsum('bij,bkj->bik', {x}, {x})", "torch.mv({x}, {v})", "torch.addmm({b}, {x}, {r})", "torch.cdist({x}, {r}.T)",
    "F.cosine_similarity({x}, {v}, dim=-1)", "torch.einsum('ij->j', {x})", "torch.inner({x}, {r}.T)",
]  # fmt: skip
LOSSES = [
    "F.mse_loss({x}, {y}, reduction='none')", "F.mse_loss({x}, {same})", "F.cross_entropy({x}, {t})", "F.smooth_l1_loss({x}, {same})",
    "F.l1_loss({x}, {same})", "F.binary_cross_entropy_with_logits({x}, torch.sigmoid({same}))", "F.nll_loss(F.log_softmax({x}, 1), {t})",
    "F.huber_loss({x}, {same}, delta=0.5)", "F.kl_div(F.log_softmax({x}, -1), F.softmax({same}, -1), reduction='batchmean')",
    "F.cross_entropy({x}, {t}, label_smoothing=0.1)", "F.cross_entropy({x}, {t}, reduction='none')", "-F.log_softmax({x}, -1)[range({x}.shape[0]), {t}]",
    "F.softplus(-{x} * {same})", "F.cross_entropy({x}, F.softmax({same}, -1))", "F.margin_ranking_loss({x}, {same}, torch.ones_like({x}))",
]  # fmt: skip
