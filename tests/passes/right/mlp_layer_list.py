import torch
import torch.nn.functional as F

g = torch.Generator().manual_seed(2147483647)


class Linear:
    def __init__(self, fan_in, fan_out):
        self.W = torch.randn((fan_in, fan_out), generator=g) / fan_in**0.5
        self.b = torch.randn(fan_out, generator=g) * 0.1

    def forward(self, x):
        self.x = x
        return x @ self.W + self.b

    def backward(self, dout):
        self.dW = self.x.T @ dout
        self.db = dout.sum(0)
        return dout @ self.W.T

    def parameters(self):
        return [(self.W, self.dW), (self.b, self.db)]


class BatchNorm1d:
    def __init__(self, dim, eps=1e-5):
        self.eps = eps
        self.gamma = torch.ones(dim) + 0.1 * torch.randn(dim, generator=g)
        self.beta = torch.zeros(dim) + 0.1 * torch.randn(dim, generator=g)

    def forward(self, x):
        self.inv_std = (x.var(0) + self.eps) ** -0.5
        self.xhat = (x - x.mean(0)) * self.inv_std
        return self.gamma * self.xhat + self.beta

    def backward(self, dout):
        n = dout.shape[0]
        self.dgamma = (dout * self.xhat).sum(0)
        self.dbeta = dout.sum(0)
        return self.gamma * self.inv_std / n * (n * dout - self.dbeta - n / (n - 1) * self.xhat * self.dgamma)

    def parameters(self):
        return [(self.gamma, self.dgamma), (self.beta, self.dbeta)]


class Tanh:
    def forward(self, x):
        self.out = torch.tanh(x)
        return self.out

    def backward(self, dout):
        return (1 - self.out**2) * dout

    def parameters(self):
        return []


C = torch.randn((27, 8), generator=g)
layers = [Linear(24, 30), BatchNorm1d(30), Tanh(), Linear(30, 30), BatchNorm1d(30), Tanh(), Linear(30, 27)]
for step in range(3):
    Xb = torch.randint(0, 27, (32, 3), generator=g)
    Yb = torch.randint(0, 27, (32,), generator=g)
    emb = C[Xb]  # (32, 3, 8)
    x = emb.view(32, -1)
    for layer in layers:
        x = layer.forward(x)
    loss = F.cross_entropy(x, Yb)
    dx = (F.softmax(x, 1) - F.one_hot(Yb, 27)) / 32
    for layer in reversed(layers):
        dx = layer.backward(dx)
    demb = dx.view(32, 3, 8)
    dC = torch.zeros_like(C).index_put_((Xb,), demb, accumulate=True)
    for layer in layers:
        for p, dp in layer.parameters():
            p -= 0.1 * dp
    C -= 0.1 * dC
    print(step, loss.item())
