import torch
import torch.nn.functional as F

vocab_size, block_size = 27, 3

n_embd, n_hidden, n = 7, 21, 32
g = torch.Generator().manual_seed(15)
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

dLdlogprobs = torch.zeros_like(logprobs)
dLdlogprobs[range(n), Yb] = -1.0 / n
dLdprobs = (1.0 / probs) * dLdlogprobs
dLdcounts_sum_inv = (counts * dLdprobs).sum(1, keepdim=True)  # (n, 1)
dLdcounts_sum = (-(counts_sum**-2)) * dLdcounts_sum_inv
dLdcounts = counts_sum_inv * dLdprobs
dLdcounts += torch.ones_like(counts) * dLdcounts_sum
dLdnorm_logits = counts * dLdcounts
dLdlogits = dLdnorm_logits.clone()
dLdlogit_maxes = (-dLdnorm_logits).sum(1, keepdim=True)  # (n, 1)
dLdlogits += F.one_hot(logits.max(1).indices, num_classes=logits.shape[1]) * dLdlogit_maxes
dLdh = dLdlogits @ W2.T
dLdW2 = h.T @ dLdlogits
dLdb2 = dLdlogits.sum(0)
dLdhpreact = (1.0 - h**2) * dLdh
dLdbngain = (bnraw * dLdhpreact).sum(0, keepdim=True)
dLdbnraw = bngain * dLdhpreact
dLdbnbias = dLdhpreact.sum(0, keepdim=True)
dLdbndiff = bnvar_inv * dLdbnraw
dLdbnvar_inv = (bndiff * dLdbnraw).sum(0, keepdim=True)
dLdbnvar = (-0.5 * (bnvar + 1e-5) ** -1.5) * dLdbnvar_inv
dLdbndiff2 = (1.0 / n) * torch.ones_like(bndiff2) * dLdbnvar  # HG214
dLdbndiff += (2 * bndiff) * dLdbndiff2
dLdhprebn = dLdbndiff.clone()
dLdbnmeani = (-dLdbndiff).sum(0, keepdim=True)
dLdhprebn += 1.0 / n * (torch.ones_like(hprebn) * dLdbnmeani)
dLdembcat = dLdhprebn @ W1.T
dLdW1 = embcat.T @ dLdhprebn
dLdb1 = dLdhprebn.sum(0)
dLdemb = dLdembcat.view(emb.shape)
dLdC = torch.zeros_like(C)
for k in range(Xb.shape[0]):
    for j in range(Xb.shape[1]):
        ix = Xb[k, j]
        dLdC[ix] += dLdemb[k, j]

cmp("logprobs", dLdlogprobs, logprobs)
cmp("counts_sum", dLdcounts_sum, counts_sum)
cmp("logit_maxes", dLdlogit_maxes, logit_maxes)
cmp("W2", dLdW2, W2)
cmp("bngain", dLdbngain, bngain)
cmp("bnvar_inv", dLdbnvar_inv, bnvar_inv)
cmp("bndiff", dLdbndiff, bndiff)
cmp("embcat", dLdembcat, embcat)
cmp("emb", dLdemb, emb)
