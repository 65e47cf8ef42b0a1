import torch

torch.manual_seed(8)
slope = 0.1
x = torch.randn(12, 7)
w = torch.randn(7, 9, requires_grad=True)
v = torch.randn(9, 1, requires_grad=True)

pre = x @ w
act = torch.where(pre > 0, pre, slope * pre)
out = act @ v
loss = out.square().sum() / 2
for t in (pre, act, out):
    t.retain_grad()
loss.backward()

grad_out = out.detach().clone()
grad_act = grad_out @ v.T
grad_v = act.T @ grad_out
grad_pre = torch.where(pre > 0, grad_act, slope * grad_act)
grad_w = x.T @ grad_pre


def same(a, b):
    return a.shape == b.shape and torch.allclose(a, b, atol=1e-5)


print(same(grad_out, out.grad), same(grad_act, act.grad), same(grad_v, v.grad))
print(same(grad_pre, pre.grad), same(grad_w, w.grad))
