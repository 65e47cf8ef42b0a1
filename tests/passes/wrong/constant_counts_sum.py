import torch
import torch.nn.functional as F

vocab_size, block_size = 27, 3

n_embd, n_hidden, n = 10, 64, 5
g = torch.Generator().manual_seed(14)
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

dl_d_logprobs = torch.zeros_like(logprobs)
dl_d_logprobs[range(n), Yb] = -1.0 / n
dl_d_probs = (1.0 / probs) * dl_d_logprobs
dl_d_counts_sum_inv = (counts * dl_d_probs).sum(1, keepdim=True)  # (n, 1)
dl_d_counts_sum = (-(counts_sum**-3)) * dl_d_counts_sum_inv  # HG220
dl_d_counts = counts_sum_inv * dl_d_probs
dl_d_counts += torch.ones_like(counts) * dl_d_counts_sum
dl_d_norm_logits = counts * dl_d_counts
dl_d_logits = dl_d_norm_logits.clone()
dl_d_logit_maxes = (-dl_d_norm_logits).sum(1, keepdim=True)  # (n, 1)
dl_d_logits += F.one_hot(logits.max(1).indices, num_classes=logits.shape[1]) * dl_d_logit_maxes
dl_d_h = dl_d_logits @ W2.T
dl_d_W2 = h.T @ dl_d_logits
dl_d_b2 = dl_d_logits.sum(0)
dl_d_hpreact = (1.0 - h**2) * dl_d_h
dl_d_bngain = (bnraw * dl_d_hpreact).sum(0, keepdim=True)
dl_d_bnraw = bngain * dl_d_hpreact
dl_d_bnbias = dl_d_hpreact.sum(0, keepdim=True)
dl_d_bndiff = bnvar_inv * dl_d_bnraw
dl_d_bnvar_inv = (bndiff * dl_d_bnraw).sum(0, keepdim=True)
dl_d_bnvar = (-0.5 * (bnvar + 1e-5) ** -1.5) * dl_d_bnvar_inv
dl_d_bndiff2 = (1.0 / (n - 1)) * torch.ones_like(bndiff2) * dl_d_bnvar
dl_d_bndiff += (2 * bndiff) * dl_d_bndiff2
dl_d_hprebn = dl_d_bndiff.clone()
dl_d_bnmeani = (-dl_d_bndiff).sum(0, keepdim=True)
dl_d_hprebn += 1.0 / n * (torch.ones_like(hprebn) * dl_d_bnmeani)
dl_d_embcat = dl_d_hprebn @ W1.T
dl_d_W1 = embcat.T @ dl_d_hprebn
dl_d_b1 = dl_d_hprebn.sum(0)
dl_d_emb = dl_d_embcat.view(emb.shape)
dl_d_C = torch.zeros_like(C)
dl_d_C.index_add_(0, Xb.view(-1), dl_d_emb.view(-1, n_embd))

cmp("counts_sum_inv", dl_d_counts_sum_inv, counts_sum_inv)
cmp("norm_logits", dl_d_norm_logits, norm_logits)
cmp("h", dl_d_h, h)
cmp("hpreact", dl_d_hpreact, hpreact)
cmp("bnraw", dl_d_bnraw, bnraw)
cmp("bndiff2", dl_d_bndiff2, bndiff2)
cmp("hprebn", dl_d_hprebn, hprebn)
cmp("b1", dl_d_b1, b1)
