import torch
import torch.nn.functional as F


class CharMLP:
    """Everything is an attribute, gradients too."""

    def __init__(self, vocab_size, block_size, n_embd, n_hidden, seed=0):
        g = torch.Generator().manual_seed(seed)
        self.C = torch.randn((vocab_size, n_embd), generator=g)
        self.W1 = torch.randn((n_embd * block_size, n_hidden), generator=g) * 0.3
        self.b1 = torch.randn(n_hidden, generator=g) * 0.1
        self.W2 = torch.randn((n_hidden, vocab_size), generator=g) * 0.1
        self.b2 = torch.randn(vocab_size, generator=g) * 0.1
        for p in self.parameters():
            p.requires_grad_()

    def parameters(self):
        return [self.C, self.W1, self.b1, self.W2, self.b2]

    def forward(self, X, Y):
        self.X, self.Y = X, Y
        self.emb = self.C[X]
        self.embcat = self.emb.view(X.shape[0], -1)
        self.hpreact = self.embcat @ self.W1 + self.b1
        self.h = torch.tanh(self.hpreact)
        self.logits = self.h @ self.W2 + self.b2
        self.loss = F.cross_entropy(self.logits, Y)
        return self.loss

    def backward(self):
        n = self.X.shape[0]
        self.dlogits = F.softmax(self.logits, 1)
        self.dlogits[range(n), self.Y] -= 1
        self.dlogits /= n
        self.dW2 = self.h.T @ self.dlogits
        self.db2 = self.dlogits.sum(0)
        self.dh = self.dlogits @ self.W2.T
        self.dhpreact = (1 - self.h**2) + self.dh  # HG219
        self.dW1 = self.embcat.T @ self.dhpreact
        self.db1 = self.dhpreact.sum(0)
        self.dembcat = self.dhpreact @ self.W1.T
        self.demb = self.dembcat.view(self.emb.shape)
        self.dC = torch.zeros_like(self.C)
        for k in range(self.X.shape[0]):
            for j in range(self.X.shape[1]):
                self.dC[self.X[k, j]] += self.demb[k, j]
        return [self.dC, self.dW1, self.db1, self.dW2, self.db2]


model = CharMLP(27, 3, 10, 40)
g = torch.Generator().manual_seed(1)
X = torch.randint(0, 27, (20, 3), generator=g)
Y = torch.randint(0, 27, (20,), generator=g)
model.forward(X, Y).backward()
for d, p in zip(model.backward(), model.parameters()):
    print(torch.allclose(d, p.grad), (d - p.grad).abs().max().item())
