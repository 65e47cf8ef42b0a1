import torch
import torch.nn.functional as F

words = "emma olivia ava isabella sophia charlotte mia amelia harper evelyn abigail emily".split()
chars = sorted(set("".join(words)))
stoi = {s: i + 1 for i, s in enumerate(chars)}
stoi["."] = 0
vocab_size = len(stoi)
block_size = 3

X, Y = [], []
for w in words:
    context = [0] * block_size
    for ch in w + ".":
        X.append(context)
        Y.append(stoi[ch])
        context = context[1:] + [stoi[ch]]
X, Y = torch.tensor(X), torch.tensor(Y)

g = torch.Generator().manual_seed(50)
n, n_embd, n1, n2 = 40, 5, 24, 18
C = torch.randn((vocab_size, n_embd), generator=g)
W1 = torch.randn((block_size * n_embd, n1), generator=g) * 0.4
b1 = torch.randn(n1, generator=g) * 0.01
W2 = torch.randn((n1, n2), generator=g) * 0.3
b2 = torch.randn(n2, generator=g) * 0.01
W3 = torch.randn((n2, vocab_size), generator=g) * 0.1
b3 = torch.zeros(vocab_size)
for p in (C, W1, b1, W2, b2, W3, b3):
    p.requires_grad_(True)

ix = torch.randint(0, X.shape[0], (n,), generator=g)
Xb, Yb = X[ix], Y[ix]

emb = C[Xb].view(n, -1)  # (n, 15)
h1 = torch.tanh(emb @ W1 + b1)
h2 = torch.tanh(h1 @ W2 + b2)
logits = h2 @ W3 + b3
loss = F.cross_entropy(logits, Yb)
loss.backward()

dlogits = F.softmax(logits, 1)
dlogits[range(n), Yb] -= 1
dlogits /= n
dW3 = h2.T @ dlogits
db3 = dlogits.sum(0)
dh2 = dlogits @ W3.T
dz2 = dh2 * (1 - hidden2**2)  # HG226
dW2 = h1.T @ dz2
db2 = dz2.sum(0)
dh1 = dz2 @ W2.T
dz1 = dh1 * (1 - h1**2)
dW1 = emb.T @ dz1
db1 = dz1.sum(0)
demb = dz1 @ W1.T  # (n, 15)
dC = torch.zeros_like(C)
dC.index_add_(0, Xb.flatten(), demb.view(-1, n_embd))
for name in ["C", "W1", "b1", "W2", "b2", "W3", "b3"]:
    d, p = globals()["d" + name], globals()[name]
    print(name, torch.allclose(d, p.grad, atol=1e-6))
