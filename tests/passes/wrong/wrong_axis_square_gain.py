import torch
import torch.nn.functional as F

vocab_size, block_size = 27, 3

n_embd, n_hidden, n = 10, 27, 27
g = torch.Generator().manual_seed(13)
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

logprobs_grad = torch.zeros_like(logprobs)
logprobs_grad[range(n), Yb] = -1.0 / n
probs_grad = (1.0 / probs) * logprobs_grad
counts_sum_inv_grad = (counts * probs_grad).sum(1, keepdim=True)  # (n, 1)
counts_sum_grad = (-(counts_sum**-2)) * counts_sum_inv_grad
counts_grad = counts_sum_inv * probs_grad
counts_grad += torch.ones_like(counts) * counts_sum_grad
norm_logits_grad = counts * counts_grad
logits_grad = norm_logits_grad.clone()
logit_maxes_grad = (-norm_logits_grad).sum(1, keepdim=True)  # (n, 1)
logits_grad += F.one_hot(logits.max(1).indices, num_classes=logits.shape[1]) * logit_maxes_grad
h_grad = logits_grad @ W2.T
W2_grad = h.T @ logits_grad
b2_grad = logits_grad.sum(0)
hpreact_grad = (1.0 - h**2) * h_grad
bngain_grad = (bnraw * hpreact_grad).sum(1).unsqueeze(0)  # HG205
bnraw_grad = bngain * hpreact_grad
bnbias_grad = hpreact_grad.sum(0, keepdim=True)
bndiff_grad = bnvar_inv * bnraw_grad
bnvar_inv_grad = (bndiff * bnraw_grad).sum(0, keepdim=True)
bnvar_grad = (-0.5 * (bnvar + 1e-5) ** -1.5) * bnvar_inv_grad
bndiff2_grad = (1.0 / (n - 1)) * torch.ones_like(bndiff2) * bnvar_grad
bndiff_grad += (2 * bndiff) * bndiff2_grad
hprebn_grad = bndiff_grad.clone()
bnmeani_grad = (-bndiff_grad).sum(0, keepdim=True)
hprebn_grad += 1.0 / n * (torch.ones_like(hprebn) * bnmeani_grad)
embcat_grad = hprebn_grad @ W1.T
W1_grad = embcat.T @ hprebn_grad
b1_grad = hprebn_grad.sum(0)
emb_grad = embcat_grad.view(emb.shape)
C_grad = torch.zeros_like(C)
for v in range(vocab_size):
    C_grad[v] = emb_grad[Xb == v].sum(0)

cmp("probs", probs_grad, probs)
cmp("counts", counts_grad, counts)
cmp("logits", logits_grad, logits)
cmp("b2", b2_grad, b2)
cmp("bnbias", bnbias_grad, bnbias)
cmp("bnvar", bnvar_grad, bnvar)
cmp("bnmeani", bnmeani_grad, bnmeani)
cmp("W1", W1_grad, W1)
cmp("C", C_grad, C)
