# micrograd's neuron: everything a scalar
import torch

x1, x2 = torch.tensor(2.0, requires_grad=True), torch.tensor(0.0, requires_grad=True)
w1, w2 = torch.tensor(-3.0, requires_grad=True), torch.tensor(1.0, requires_grad=True)
b = torch.tensor(6.8813735870195432, requires_grad=True)
x1w1 = x1 * w1
x2w2 = x2 * w2
total = x1w1 + x2w2
n = total + b
o = torch.tanh(n)
for t in (x1w1, x2w2, total, n, o):
    t.retain_grad()
o.backward()

do = torch.tensor(1.0)
dn = (1 - o**2) * do
dtotal = dn
db = dn
dx1w1 = dtotal
dx2w2 = dtotal
dx1 = w1 * dx1w1
dw1 = x1 * dx1w1
dx2 = w2 * dx2w2
dw2 = x2 * dx2w2
print(dx1.item(), x1.grad.item(), dw1.item(), w1.grad.item())
print(dx2.item(), x2.grad.item(), dw2.item(), w2.grad.item())
