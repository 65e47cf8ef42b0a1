import torch

torch.manual_seed(30)
A = torch.randn(4, 3, 5, requires_grad=True)
B = torch.randn(4, 5, 2, requires_grad=True)
c = torch.randn(2, requires_grad=True)
M = torch.bmm(A, B) + c  # (4, 3, 2)
loss = M.tanh().sum()
loss.backward()

dM = 1 - M.tanh() ** 2
dA = torch.bmm(dM, B.transpose(1, 2))
dB = torch.bmm(A.transpose(1, 2), dM)
dc = dM.sum(dim=(0, 1))
print([torch.allclose(d, t.grad, atol=1e-6) for d, t in ((dA, A), (dB, B), (dc, c))])
