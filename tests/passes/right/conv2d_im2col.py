# F.unfold and F.fold are each other's gradient
import torch
import torch.nn.functional as F

torch.manual_seed(24)
N, C, S, O, K = 2, 3, 6, 4, 3
img = torch.randn(N, C, S, S, requires_grad=True)
weight = torch.randn(O, C * K * K, requires_grad=True)
patches = F.unfold(img, K)  # (N, C * K * K, 16)
out = weight @ patches  # (N, O, 16)
act = out.relu()
loss = act.sum() / N
loss.backward()

dact = torch.ones_like(act) / N
dout = dact * (out > 0)
dweight = (dout @ patches.transpose(1, 2)).sum(0)
dpatches = weight.T @ dout
dimg = F.fold(dpatches, (S, S), K)
print(torch.allclose(dweight, weight.grad, atol=1e-5))
print(torch.allclose(dimg, img.grad, atol=1e-5))
