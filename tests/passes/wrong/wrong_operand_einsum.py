# every product an einsum
import torch
import torch.nn.functional as F

vocab_size, block_size = 11, 4

n_embd, n_hidden, n = 5, 12, 9
g = torch.Generator().manual_seed(11)
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


emb = C[Xb]  # (n, 4, n_embd)
embcat = emb.view(emb.shape[0], -1)  # (n, 4 * n_embd)
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
dlogprobs[torch.arange(n), Yb] = -1 / n
dprobs = dlogprobs / probs
dcounts_sum_inv = torch.einsum("nv,nv->n", counts, dprobs).unsqueeze(1)
dcounts_sum = -dcounts_sum_inv / counts_sum**2
dcounts = torch.einsum("no,nv->nv", counts_sum_inv, dprobs) + dcounts_sum.expand_as(counts)
dnorm_logits = torch.einsum("nv,nv->nv", dcounts, counts)
dlogit_maxes = -torch.einsum("nv->n", dnorm_logits)[:, None]
hot = F.one_hot(logits.argmax(1), vocab_size).to(logits.dtype)
dlogits = dnorm_logits + torch.einsum("no,nv->nv", dlogit_maxes, hot)
dh = torch.einsum("nv,hv->nh", dlogits, W2)
dW2 = torch.einsum("nh,nv->hv", h, dlogits)
db2 = torch.einsum("nv->v", dlogits)
dhpreact = dh - torch.einsum("nh,nh,nh->nh", h, h, dh)
dbngain = torch.einsum("nh,nh->h", bnraw, dh)[None]  # HG218
dbnbias = torch.einsum("nh->h", dhpreact)[None]
dbnraw = torch.einsum("oh,nh->nh", bngain, dhpreact)
dbnvar_inv = torch.einsum("nh,nh->h", bndiff, dbnraw)[None]
dbnvar = -0.5 * bnvar_inv**3 * dbnvar_inv
dbndiff2 = dbnvar.expand(n, -1) / (n - 1)
dbndiff = torch.einsum("oh,nh->nh", bnvar_inv, dbnraw) + 2 * bndiff * dbndiff2
dbnmeani = -torch.einsum("nh->h", dbndiff)[None]
dhprebn = dbndiff + dbnmeani / n
dembcat = torch.einsum("nh,eh->ne", dhprebn, W1)
dW1 = torch.einsum("ne,nh->eh", embcat, dhprebn)
db1 = torch.einsum("nh->h", dhprebn)
demb = dembcat.reshape(n, block_size, n_embd)
dC = torch.einsum("ntv,nte->ve", F.one_hot(Xb, vocab_size).to(demb.dtype), demb)

cmp("logprobs", dlogprobs, logprobs)
cmp("counts_sum", dcounts_sum, counts_sum)
cmp("logit_maxes", dlogit_maxes, logit_maxes)
cmp("W2", dW2, W2)
cmp("bngain", dbngain, bngain)
cmp("bnvar_inv", dbnvar_inv, bnvar_inv)
cmp("bndiff", dbndiff, bndiff)
cmp("embcat", dembcat, embcat)
cmp("emb", demb, emb)
