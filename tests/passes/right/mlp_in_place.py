import torch
import torch.nn.functional as F

vocab_size, block_size = 27, 3

n_embd, n_hidden, n = 10, 33, 32
g = torch.Generator().manual_seed(45)
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

with torch.no_grad():
    dlogprobs = torch.zeros_like(logprobs)
    dlogprobs[range(n), Yb] = -1
    dlogprobs.div_(n)
    dprobs = dlogprobs.clone().div_(probs)
    dcounts_sum_inv = dprobs.mul(counts).sum(1, keepdim=True)
    dcounts_sum = counts_sum.pow(-2).neg_().mul_(dcounts_sum_inv)
    dcounts = torch.zeros_like(counts)
    dcounts.addcmul_(counts_sum_inv, dprobs)
    dcounts.add_(dcounts_sum)
    dnorm_logits = dcounts.clone().mul_(counts)
    dlogit_maxes = dnorm_logits.sum(1, keepdim=True).neg_()
    dlogits = dnorm_logits.clone()
    dlogits.scatter_add_(1, logits.argmax(1, keepdim=True), dlogit_maxes)
    dh = dlogits.mm(W2.t())
    dW2 = torch.zeros_like(W2).addmm_(h.t(), dlogits)
    db2 = torch.zeros_like(b2).add_(dlogits.sum(0))
    dhpreact = h.square().neg_().add_(1.0).mul_(dh)
    dbngain = bnraw.mul(dhpreact).sum(0, keepdim=True)
    dbnraw = dhpreact.clone().mul_(bngain)
    dbnbias = torch.zeros_like(bnbias)
    dbnbias += dhpreact.sum(0)
    dbndiff = torch.empty_like(bndiff)
    torch.mul(bnvar_inv, dbnraw, out=dbndiff)
    dbnvar_inv = bndiff.mul(dbnraw).sum(0, keepdim=True)
    dbnvar = bnvar.add(1e-5).pow_(-1.5).mul_(-0.5).mul_(dbnvar_inv)
    dbndiff2 = torch.ones_like(bndiff2)
    dbndiff2 *= dbnvar
    dbndiff2 /= n - 1
    dbndiff.addcmul_(bndiff, dbndiff2, value=2)
    dbnmeani = dbndiff.sum(0, keepdim=True).neg_()
    dhprebn = dbndiff.clone()
    dhprebn.add_(dbnmeani, alpha=1 / n)
    dembcat = dhprebn.mm(W1.t())
    dW1 = embcat.t().mm(dhprebn)
    db1 = dhprebn.sum(0)
    demb = dembcat.view_as(emb)
    dC = torch.zeros_like(C)
    dC.index_add_(0, Xb.flatten(), demb.flatten(0, 1))

cmp("counts_sum_inv", dcounts_sum_inv, counts_sum_inv)
cmp("norm_logits", dnorm_logits, norm_logits)
cmp("h", dh, h)
cmp("hpreact", dhpreact, hpreact)
cmp("bnraw", dbnraw, bnraw)
cmp("bndiff2", dbndiff2, bndiff2)
cmp("hprebn", dhprebn, hprebn)
cmp("b1", db1, b1)
