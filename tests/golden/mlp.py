"""The names model in atomic steps: exercise 1."""

import torch
import torch.nn.functional as F


def inputs(n=32, vocab=27, block=3, embd=10, hidden=64, seed=1):
    g = torch.Generator().manual_seed(seed)
    C = torch.randn((vocab, embd), generator=g)
    W1 = torch.randn((block * embd, hidden), generator=g) * 0.3
    b1 = torch.randn(hidden, generator=g) * 0.1
    W2 = torch.randn((hidden, vocab), generator=g) * 0.1
    b2 = torch.randn(vocab, generator=g) * 0.1
    bngain = torch.randn((1, hidden), generator=g) * 0.1 + 1.0
    bnbias = torch.randn((1, hidden), generator=g) * 0.1
    parameters = [p.requires_grad_() for p in (C, W1, b1, W2, b2, bngain, bnbias)]
    Xb = torch.randint(0, vocab, (n, block), generator=g)
    Yb = torch.randint(0, vocab, (n,), generator=g)
    return [*parameters, Xb, Yb]


def forward(C, W1, b1, W2, b2, bngain, bnbias, Xb, Yb):
    n = Xb.shape[0]
    # embedding
    emb = C[Xb]
    embcat = emb.view(n, -1)
    # linear layer 1
    hprebn = embcat @ W1 + b1
    # batch norm
    bnmeani = 1 / n * hprebn.sum(0, keepdim=True)
    bndiff = hprebn - bnmeani
    bndiff2 = bndiff**2
    bnvar = 1 / (n - 1) * bndiff2.sum(0, keepdim=True)
    bnvar_inv = (bnvar + 1e-5) ** -0.5
    bnraw = bndiff * bnvar_inv
    hpreact = bngain * bnraw + bnbias
    # non-linearity
    h = torch.tanh(hpreact)
    # linear layer 2
    logits = h @ W2 + b2
    # cross-entropy
    logit_maxes = logits.max(1, keepdim=True).values
    norm_logits = logits - logit_maxes
    counts = norm_logits.exp()
    counts_sum = counts.sum(1, keepdim=True)
    counts_sum_inv = counts_sum**-1
    probs = counts * counts_sum_inv
    logprobs = probs.log()
    loss = -logprobs[range(n), Yb].mean()
    return loss

# -- derived


def forward_and_backward(C, W1, b1, W2, b2, bngain, bnbias, Xb, Yb):
    n = Xb.shape[0]
    # embedding
    emb = C[Xb]
    embcat = emb.view(n, -1)
    # linear layer 1
    hprebn = embcat @ W1 + b1
    # batch norm
    bnmeani = 1 / n * hprebn.sum(0, keepdim=True)
    bndiff = hprebn - bnmeani
    bndiff2 = bndiff**2
    bnvar = 1 / (n - 1) * bndiff2.sum(0, keepdim=True)
    bnvar_inv = (bnvar + 1e-5) ** -0.5
    bnraw = bndiff * bnvar_inv
    hpreact = bngain * bnraw + bnbias
    # non-linearity
    h = torch.tanh(hpreact)
    # linear layer 2
    logits = h @ W2 + b2
    # cross-entropy
    logit_maxes = logits.max(1, keepdim=True).values
    norm_logits = logits - logit_maxes
    counts = norm_logits.exp()
    counts_sum = counts.sum(1, keepdim=True)
    counts_sum_inv = counts_sum**-1
    probs = counts * counts_sum_inv
    logprobs = probs.log()
    loss = -logprobs[range(n), Yb].mean()

    # loss = -logprobs[range(n), Yb].mean()
    dlogprobs = torch.zeros_like(logprobs)
    dlogprobs[range(n), Yb] = -1.0 / n  # (n, 27)
    # logprobs = probs.log()
    dprobs = dlogprobs / probs  # (n, 27)
    # probs = counts * counts_sum_inv
    dcounts = counts_sum_inv * dprobs  # (n, 27)
    dcounts_sum_inv = (counts * dprobs).sum(1, keepdim=True)  # (n, 1)
    # counts_sum_inv = counts_sum**-1
    dcounts_sum = -counts_sum**-2 * dcounts_sum_inv  # (n, 1)
    # counts_sum = counts.sum(1, keepdim=True)
    dcounts += dcounts_sum  # (n, 27)
    # counts = norm_logits.exp()
    dnorm_logits = counts * dcounts  # (n, 27)
    # norm_logits = logits - logit_maxes
    dlogits = dnorm_logits.clone()  # (n, 27)
    dlogit_maxes = (-dnorm_logits).sum(1, keepdim=True)  # (n, 1)
    # logit_maxes = logits.max(1, keepdim=True).values
    dlogits += F.one_hot(logits.argmax(1), logits.shape[1]) * dlogit_maxes  # (n, 27)
    # logits = h @ W2 + b2
    db2 = dlogits.sum(0)  # (27,)
    dh = dlogits @ W2.T  # (n, 64)
    dW2 = h.T @ dlogits  # (64, 27)
    # h = torch.tanh(hpreact)
    dhpreact = (1.0 - h**2) * dh  # (n, 64)
    # hpreact = bngain * bnraw + bnbias
    dbnbias = dhpreact.sum(0, keepdim=True)  # (1, 64)
    dbngain = (bnraw * dhpreact).sum(0, keepdim=True)  # (1, 64)
    dbnraw = bngain * dhpreact  # (n, 64)
    # bnraw = bndiff * bnvar_inv
    dbndiff = bnvar_inv * dbnraw  # (n, 64)
    dbnvar_inv = (bndiff * dbnraw).sum(0, keepdim=True)  # (1, 64)
    # bnvar_inv = (bnvar + 1e-5) ** -0.5
    dbnvar = -0.5 * (bnvar + 1e-5)**-1.5 * dbnvar_inv  # (1, 64)
    # bnvar = 1 / (n - 1) * bndiff2.sum(0, keepdim=True)
    dbndiff2 = (1 / (n - 1) * dbnvar).expand_as(bndiff2)  # (n, 64)
    # bndiff2 = bndiff**2
    dbndiff += 2 * bndiff * dbndiff2  # (n, 64)
    # bndiff = hprebn - bnmeani
    dhprebn = dbndiff.clone()  # (n, 64)
    dbnmeani = (-dbndiff).sum(0, keepdim=True)  # (1, 64)
    # bnmeani = 1 / n * hprebn.sum(0, keepdim=True)
    dhprebn += 1 / n * dbnmeani  # (n, 64)
    # hprebn = embcat @ W1 + b1
    db1 = dhprebn.sum(0)  # (64,)
    dembcat = dhprebn @ W1.T  # (n, 30)
    dW1 = embcat.T @ dhprebn  # (30, 64)
    # embcat = emb.view(n, -1)
    demb = dembcat.reshape(emb.shape)  # (n, 3, 10)
    # emb = C[Xb]
    dC = torch.zeros_like(C)
    dC.index_put_((Xb,), demb, accumulate=True)  # (27, 10)
    return locals()
