import torch
import torch.nn.functional as F

vocab_size, block_size = 27, 3

n_embd, n_hidden, n = 10, 64, 32
g = torch.Generator().manual_seed(1)
C = torch.randn((vocab_size, n_embd), generator=g)
W1 = torch.randn((n_embd * block_size, n_hidden), generator=g) * (5 / 3) / (n_embd * block_size) ** 0.5
b1 = torch.randn(n_hidden, generator=g) * 0.1
W2 = torch.randn((n_hidden, vocab_size), generator=g) * 0.1
b2 = torch.randn(vocab_size, generator=g) * 0.1
bngain = torch.randn((1, n_hidden), generator=g) * 0.1 + 1.0
bnbias = torch.randn((1, n_hidden), generator=g) * 0.1
parameters = [C, W1, b1, W2, b2, bngain, bnbias]
for p in parameters:
    p.requires_grad = True
Xb = torch.randint(0, vocab_size, (n, block_size), generator=g)
Yb = torch.randint(0, vocab_size, (n,), generator=g)


def cmp(s, dt, t):
    ex = torch.all(dt == t.grad).item()
    app = torch.allclose(dt, t.grad)
    maxdiff = (dt - t.grad).abs().max().item()
    print(f"{s:15s} | exact: {str(ex):5s} | approximate: {str(app):5s} | maxdiff: {maxdiff}")


emb = C[Xb]  # (n, 3, n_embd)
embcat = emb.view(emb.shape[0], -1)  # (n, 3 * n_embd)
hprebn = embcat @ W1 + b1  # (n, n_hidden)
bnmeani = 1 / n * hprebn.sum(0, keepdim=True)  # (1, n_hidden)
bndiff = hprebn - bnmeani
bndiff2 = bndiff**2
bnvar = 1 / (n - 1) * bndiff2.sum(0, keepdim=True)  # (1, n_hidden), Bessel
bnvar_inv = (bnvar + 1e-5) ** -0.5
bnraw = bndiff * bnvar_inv  # (n, n_hidden)
hpreact = bngain * bnraw + bnbias
h = torch.tanh(hpreact)  # (n, n_hidden)
logits = h @ W2 + b2  # (n, vocab_size)
logit_maxes = logits.max(1, keepdim=True).values  # (n, 1)
norm_logits = logits - logit_maxes
counts = norm_logits.exp()
counts_sum = counts.sum(1, keepdim=True)  # (n, 1)
counts_sum_inv = counts_sum**-1
probs = counts * counts_sum_inv  # (n, vocab_size)
logprobs = probs.log()
loss = -logprobs[range(n), Yb].mean()

for t in [logprobs, probs, counts, counts_sum, counts_sum_inv, norm_logits, logit_maxes, logits, h, hpreact, bnraw,
          bnvar_inv, bnvar, bndiff2, bndiff, hprebn, bnmeani, embcat, emb]:
    t.retain_grad()
loss.backward()

d_logprobs = torch.zeros_like(logprobs)
d_logprobs[range(n), Yb] = 1.0 / n  # HG213
d_probs = (1.0 / probs) * d_logprobs
d_counts_sum_inv = (counts * d_probs).sum(1, keepdim=True)  # (n, 1)
d_counts_sum = (-(counts_sum**-2)) * d_counts_sum_inv
d_counts = counts_sum_inv * d_probs
d_counts = torch.ones_like(counts) * d_counts_sum  # HG209
d_norm_logits = counts * d_counts
d_logits = d_norm_logits.clone()
d_logit_maxes = (-d_norm_logits).sum(1, keepdim=True)  # (n, 1)
d_logits += F.one_hot(logits.max(1).indices, num_classes=logits.shape[1]) * d_logit_maxes
d_h = d_logits @ W2.T
d_W2 = h.T @ d_logits
d_b2 = d_logits.mean(0)  # HG214
d_hpreact = (1.0 - h**2) * d_h
d_bngain = (bnraw * d_hpreact).sum(0, keepdim=True)
d_bnraw = bngain * d_hpreact
d_bnbias = d_hpreact.sum(0, keepdim=True)
d_bndiff = bnvar_inv * d_bnraw
d_bnvar_inv = (bndiff * d_bnraw).sum(0, keepdim=True)
d_bnvar = (-0.5 * (bnvar + 1e-5) ** -1.5) * d_bnvar_inv
d_bndiff2 = (1.0 / (n - 1)) * torch.ones_like(bndiff2) * d_bnvar
d_bndiff += (2 * bndiff) * d_bndiff2
d_hprebn = d_bndiff.clone()
d_bnmeani = (-d_bndiff).sum(0, keepdim=True)
d_hprebn += 1.0 / n * (torch.ones_like(hprebn) * d_bnmeani)
d_embcat = d_hprebn @ W1.T
d_W1 = embcat.T @ d_hprebn
d_b1 = d_hprebn.sum(0)
d_emb = d_embcat.view(emb.shape)
d_C = torch.zeros_like(C)
for k in range(Xb.shape[0]):
    for j in range(Xb.shape[1]):
        ix = Xb[k, j]
        d_C[ix] += d_emb[k, j]

cmp("logprobs", d_logprobs, logprobs)
cmp("probs", d_probs, probs)
cmp("counts_sum_inv", d_counts_sum_inv, counts_sum_inv)
cmp("counts_sum", d_counts_sum, counts_sum)
cmp("counts", d_counts, counts)
cmp("norm_logits", d_norm_logits, norm_logits)
cmp("logit_maxes", d_logit_maxes, logit_maxes)
cmp("logits", d_logits, logits)
cmp("h", d_h, h)
cmp("W2", d_W2, W2)
cmp("b2", d_b2, b2)
cmp("hpreact", d_hpreact, hpreact)
cmp("bngain", d_bngain, bngain)
cmp("bnbias", d_bnbias, bnbias)
cmp("bnraw", d_bnraw, bnraw)
cmp("bnvar_inv", d_bnvar_inv, bnvar_inv)
cmp("bnvar", d_bnvar, bnvar)
cmp("bndiff2", d_bndiff2, bndiff2)
cmp("bndiff", d_bndiff, bndiff)
cmp("bnmeani", d_bnmeani, bnmeani)
cmp("hprebn", d_hprebn, hprebn)
cmp("embcat", d_embcat, embcat)
cmp("W1", d_W1, W1)
cmp("b1", d_b1, b1)
cmp("emb", d_emb, emb)
cmp("C", d_C, C)
