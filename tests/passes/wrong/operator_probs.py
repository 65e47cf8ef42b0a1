import torch
import torch.nn.functional as F

vocab_size, block_size = 27, 3

n_embd, n_hidden, n = 4, 15, 27
g = torch.Generator().manual_seed(12)
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

grad_logprobs = torch.zeros_like(logprobs)
grad_logprobs[range(n), Yb] = -1.0 / n
grad_probs = (1.0 * probs) * grad_logprobs  # HG219
grad_counts_sum_inv = (counts * grad_probs).sum(1, keepdim=True)  # (n, 1)
grad_counts_sum = (-(counts_sum**-2)) * grad_counts_sum_inv
grad_counts = counts_sum_inv * grad_probs
grad_counts += torch.ones_like(counts) * grad_counts_sum
grad_norm_logits = counts * grad_counts
grad_logits = grad_norm_logits.clone()
grad_logit_maxes = (-grad_norm_logits).sum(1, keepdim=True)  # (n, 1)
grad_logits += F.one_hot(logits.max(1).indices, num_classes=logits.shape[1]) * grad_logit_maxes
grad_h = grad_logits @ W2.T
grad_W2 = h.T @ grad_logits
grad_b2 = grad_logits.sum(0)
grad_hpreact = (1.0 - h**2) * grad_h
grad_bngain = (bnraw * grad_hpreact).sum(0, keepdim=True)
grad_bnraw = bngain * grad_hpreact
grad_bnbias = grad_hpreact.sum(0, keepdim=True)
grad_bndiff = bnvar_inv * grad_bnraw
grad_bnvar_inv = (bndiff * grad_bnraw).sum(0, keepdim=True)
grad_bnvar = (-0.5 * (bnvar + 1e-5) ** -1.5) * grad_bnvar_inv
grad_bndiff2 = (1.0 / (n - 1)) * torch.ones_like(bndiff2) * grad_bnvar
grad_bndiff += (2 * bndiff) * grad_bndiff2
grad_hprebn = grad_bndiff.clone()
grad_bnmeani = (-grad_bndiff).sum(0, keepdim=True)
grad_hprebn += 1.0 / n * (torch.ones_like(hprebn) * grad_bnmeani)
grad_embcat = grad_hprebn @ W1.T
grad_W1 = embcat.T @ grad_hprebn
grad_b1 = grad_hprebn.sum(0)
grad_emb = grad_embcat.view(emb.shape)
grad_C = torch.zeros_like(C)
for i, row in enumerate(Xb.flatten()):
    grad_C[row] += grad_emb.view(-1, n_embd)[i]

cmp("logprobs", grad_logprobs, logprobs)
cmp("counts_sum", grad_counts_sum, counts_sum)
cmp("logit_maxes", grad_logit_maxes, logit_maxes)
cmp("W2", grad_W2, W2)
cmp("bngain", grad_bngain, bngain)
cmp("bnvar_inv", grad_bnvar_inv, bnvar_inv)
cmp("bndiff", grad_bndiff, bndiff)
cmp("embcat", grad_embcat, embcat)
cmp("emb", grad_emb, emb)
