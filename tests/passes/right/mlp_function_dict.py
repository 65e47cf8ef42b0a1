import torch
import torch.nn.functional as F

vocab_size, block_size = 27, 3

n_embd, n_hidden, n = 10, 32, 32
g = torch.Generator().manual_seed(22)
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


def model(Xb, Yb):
    emb = C[Xb]  # (n, 3, n_embd)
    embcat = emb.flatten(1)
    hpre = embcat @ W1 + b1
    mean = hpre.mean(0, keepdim=True)
    var = hpre.var(0, keepdim=True)
    xhat = (hpre - mean) / (var + 1e-5).sqrt()
    hbn = bngain * xhat + bnbias
    h = hbn.tanh()
    logits = h @ W2 + b2
    loss = F.cross_entropy(logits, Yb)
    return {"emb": emb, "embcat": embcat, "hpre": hpre, "var": var, "xhat": xhat, "hbn": hbn, "h": h,
            "logits": logits, "loss": loss}


def model_backward(v, Xb, Yb):
    n = Xb.shape[0]
    dlogits = (F.softmax(v["logits"], dim=1) - F.one_hot(Yb, vocab_size)) / n
    dh = dlogits @ W2.T
    dhbn = dh * (1 - v["h"] ** 2)
    dxhat = dhbn * bngain
    std_inv = (v["var"] + 1e-5) ** -0.5
    dhpre = std_inv * (dxhat - dxhat.mean(0) - v["xhat"] * (dxhat * v["xhat"]).sum(0) / (n - 1))
    dembcat = dhpre @ W1.T
    demb = dembcat.view_as(v["emb"])
    dC = torch.zeros_like(C)
    dC.index_add_(0, Xb.flatten(), demb.flatten(0, 1))
    return {
        "C": dC,
        "W1": v["embcat"].T @ dhpre,
        "b1": dhpre.sum(0),
        "W2": v["h"].T @ dlogits,
        "b2": dlogits.sum(0),
        "bngain": (dhbn * v["xhat"]).sum(0, keepdim=True),
        "bnbias": dhbn.sum(0, keepdim=True),
    }


v = model(Xb, Yb)
grads = model_backward(v, Xb, Yb)
v["loss"].backward()
for name, p in zip(["C", "W1", "b1", "W2", "b2", "bngain", "bnbias"], parameters):
    print(name, grads[name].shape == p.grad.shape, torch.allclose(grads[name], p.grad, atol=1e-6))
