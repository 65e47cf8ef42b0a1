import torch
import torch.nn.functional as F

vocab_size, block_size = 27, 3

n_embd, n_hidden, n = 10, 20, 32
g = torch.Generator().manual_seed(39)
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


def linear_backward(dout, x, W):
    """Return the gradients of x, W and b."""
    dx = dout @ W.T
    dW = x.T @ dout
    db = dout.sum(0)
    return dx, dW, db


def tanh_backward(dout, out):
    return dout * (1 - out**2)


def batchnorm_backward(dout, gamma, xhat, inv_std):
    N = dout.shape[0]
    dgamma = (dout * xhat).sum(0, keepdim=True)
    dbeta = dout.sum(0, keepdim=True)
    dxhat = dout * gamma
    dx = inv_std * (dxhat - dxhat.sum(0) / N - xhat * (dxhat * xhat).sum(0) / (N - 1))
    return dx, dgamma, dbeta


def cross_entropy_backward(logits, target):
    d = F.softmax(logits, dim=1)
    d[torch.arange(len(target)), target] -= 1
    return d / len(target)


def embedding_backward(dout, idx, shape):
    d = torch.zeros(shape, dtype=dout.dtype)
    d.index_add_(0, idx.reshape(-1), dout.reshape(-1, shape[1]))
    return d


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

dlogits = cross_entropy_backward(logits, Yb)
dh, dW2, db2 = linear_backward(dlogits, h, W2)
dhpreact = tanh_backward(dh, h)
dhprebn, dbngain, dbnbias = batchnorm_backward(dhpreact, bngain, bnraw, bnvar_inv)
dembcat, dW1, db1 = linear_backward(dhprebn, embcat, W1)
demb = dembcat.view(emb.shape)
dC = embedding_backward(demb, Xb, C.shape)

cmp("logits", dlogits, logits)
cmp("h", dh, h)
cmp("W2", dW2, W2)
cmp("b2", db2, b2)
cmp("hpreact", dhpreact, hpreact)
cmp("bngain", dbngain, bngain)
cmp("bnbias", dbnbias, bnbias)
cmp("hprebn", dhprebn, hprebn)
cmp("embcat", dembcat, embcat)
cmp("W1", dW1, W1)
cmp("b1", db1, b1)
cmp("emb", demb, emb)
cmp("C", dC, C)
