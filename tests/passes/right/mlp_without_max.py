import torch
import torch.nn.functional as F

vocab_size, block_size = 27, 3

n_embd, n_hidden, n = 10, 33, 32
g = torch.Generator().manual_seed(46)
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


emb = C[Xb]
embcat = emb.view(n, -1)
hprebn = embcat @ W1 + b1
bnmean = hprebn.mean(0, keepdim=True)
bnvar = ((hprebn - bnmean) ** 2).mean(0, keepdim=True)  # divided by n, as in the paper
bnstd = (bnvar + 1e-5).sqrt()
bnraw = (hprebn - bnmean) / bnstd
hpreact = bngain * bnraw + bnbias
h = torch.tanh(hpreact)
logits = h @ W2 + b2
loss = (logits.exp().sum(1).log() - logits[torch.arange(n), Yb]).mean()
for t in (emb, embcat, hprebn, bnraw, hpreact, h, logits):
    t.retain_grad()
loss.backward()

dlogits = logits.exp() / logits.exp().sum(1, keepdim=True)
dlogits -= F.one_hot(Yb, vocab_size)
dlogits *= 1 / n
dW2, db2, dh = h.T @ dlogits, dlogits.sum(0), dlogits @ W2.T
dhpreact = dh / torch.cosh(hpreact) ** 2
dbngain = (dhpreact * bnraw).sum(0, keepdim=True)
dbnbias = dhpreact.sum(0, keepdim=True)
dbnraw = dhpreact * bngain
dhprebn = (dbnraw - dbnraw.mean(0) - bnraw * (dbnraw * bnraw).mean(0)) / bnstd
dW1, db1, dembcat = embcat.T @ dhprebn, dhprebn.sum(0), dhprebn @ W1.T
demb = dembcat.view(n, block_size, n_embd)
dC = torch.zeros_like(C)
for v in Xb.unique():
    dC[v] = demb[Xb == v].sum(0)

cmp("logits", dlogits, logits)
cmp("W2", dW2, W2)
cmp("b2", db2, b2)
cmp("h", dh, h)
cmp("hpreact", dhpreact, hpreact)
cmp("bngain", dbngain, bngain)
cmp("bnbias", dbnbias, bnbias)
cmp("bnraw", dbnraw, bnraw)
cmp("hprebn", dhprebn, hprebn)
cmp("W1", dW1, W1)
cmp("b1", db1, b1)
cmp("embcat", dembcat, embcat)
cmp("emb", demb, emb)
cmp("C", dC, C)
