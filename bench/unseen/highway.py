# Highway network (Srivastava et al. 2015): layers in lists, the input rebound in the loop.
import torch

torch.manual_seed(20)
depth, n, width = 4, 10, 6
x = torch.randn(n, width)
target = torch.randn(n)
Ws = [(torch.randn(width, width) * 0.4).requires_grad_() for _ in range(depth)]
Wts = [(torch.randn(width, width) * 0.4).requires_grad_() for _ in range(depth)]
bts = [torch.full((width,), -1.0, requires_grad=True) for _ in range(depth)]
w_out = torch.randn(width, requires_grad=True)

for W, Wt, bt in zip(Ws, Wts, bts):
    gate = torch.sigmoid(x @ Wt + bt)
    x = gate * torch.tanh(x @ W) + (1 - gate) * x
pred = x @ w_out
loss = torch.nn.functional.smooth_l1_loss(pred, target)
