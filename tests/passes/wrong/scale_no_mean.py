import torch
import torch.nn.functional as F

vocab_size, block_size = 27, 3

n_embd, n_hidden, n = 10, 64, 32
g = torch.Generator().manual_seed(33)
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

dlogprobs = torch.zeros_like(logprobs)
dlogprobs[range(n), Yb] = -1.0  # HG214
print(torch.allclose(dlogprobs, logprobs.grad))
dprobs = (1.0 / probs) * dlogprobs
print(torch.allclose(dprobs, probs.grad))
dcounts_sum_inv = (counts * dprobs).sum(1, keepdim=True)  # (n, 1)
print(torch.allclose(dcounts_sum_inv, counts_sum_inv.grad))
dcounts_sum = (-(counts_sum**-2)) * dcounts_sum_inv
print(torch.allclose(dcounts_sum, counts_sum.grad))
dcounts = counts_sum_inv * dprobs
dcounts += torch.ones_like(counts) * dcounts_sum
print(torch.allclose(dcounts, counts.grad))
dnorm_logits = counts * dcounts
print(torch.allclose(dnorm_logits, norm_logits.grad))
dlogits = dnorm_logits.clone()
dlogit_maxes = (-dnorm_logits).sum(1, keepdim=True)  # (n, 1)
print(torch.allclose(dlogit_maxes, logit_maxes.grad))
dlogits += F.one_hot(logits.max(1).indices, num_classes=logits.shape[1]) * dlogit_maxes
print(torch.allclose(dlogits, logits.grad))
dh = dlogits @ W2.T
print(torch.allclose(dh, h.grad))
dW2 = h.T @ dlogits
print(torch.allclose(dW2, W2.grad))
db2 = dlogits.sum(0)
print(torch.allclose(db2, b2.grad))
dhpreact = (1.0 - h**2) * dh
print(torch.allclose(dhpreact, hpreact.grad))
dbngain = (bnraw * dhpreact).sum(0, keepdim=True)
print(torch.allclose(dbngain, bngain.grad))
dbnraw = bngain * dhpreact
print(torch.allclose(dbnraw, bnraw.grad))
dbnbias = dhpreact.sum(0, keepdim=True)
print(torch.allclose(dbnbias, bnbias.grad))
dbndiff = bnvar_inv * dbnraw
dbnvar_inv = (bndiff * dbnraw).sum(0, keepdim=True)
print(torch.allclose(dbnvar_inv, bnvar_inv.grad))
dbnvar = (-0.5 * (bnvar + 1e-5) ** -1.5) * dbnvar_inv
print(torch.allclose(dbnvar, bnvar.grad))
dbndiff2 = (1.0 / (n - 1)) * torch.ones_like(bndiff2) * dbnvar
print(torch.allclose(dbndiff2, bndiff2.grad))
dbndiff += (2 * bndiff) * dbndiff2
print(torch.allclose(dbndiff, bndiff.grad))
dhprebn = dbndiff.clone()
dbnmeani = (-dbndiff).sum(0, keepdim=True)
print(torch.allclose(dbnmeani, bnmeani.grad))
dhprebn += 1.0 / n * (torch.ones_like(hprebn) * dbnmeani)
print(torch.allclose(dhprebn, hprebn.grad))
dembcat = dhprebn @ W1.T
print(torch.allclose(dembcat, embcat.grad))
dW1 = embcat.T @ dhprebn
print(torch.allclose(dW1, W1.grad))
db1 = dhprebn.sum(0)
print(torch.allclose(db1, b1.grad))
demb = dembcat.view(emb.shape)
print(torch.allclose(demb, emb.grad))
dC = torch.zeros_like(C)
dC = dC.index_add(0, Xb.view(-1), demb.view(-1, n_embd))
print(torch.allclose(dC, C.grad))
