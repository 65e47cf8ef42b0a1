# missing: dWe dbe
import torch


class AutoEncoder:
    def __init__(self, d, k):
        self.We = torch.randn(d, k) * 0.4
        self.be = torch.zeros(k)
        self.Wd = torch.randn(k, d) * 0.4
        self.bd = torch.zeros(d)

    def forward(self, x):
        self.x = x
        self.z = torch.tanh(x @ self.We + self.be)
        self.xr = self.z @ self.Wd + self.bd
        self.loss = ((self.xr - x) ** 2).mean()
        return self.loss

    def backward(self):
        dxr = 2 * (self.xr - self.x) / self.x.numel()
        self.dWd = self.z.T @ dxr
        self.dbd = dxr.sum(0)
        self.dWe = None  # I do not know yet
        self.dbe = None

    def step(self, lr):
        for name in ("Wd", "bd"):
            setattr(self, name, getattr(self, name) - lr * getattr(self, "d" + name))


torch.manual_seed(42)
data = torch.randn(25, 6)
model = AutoEncoder(6, 2)
for i in range(4):
    print(i, model.forward(data).item())
    model.backward()
    model.step(0.5)
