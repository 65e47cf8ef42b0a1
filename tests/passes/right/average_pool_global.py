import torch

torch.manual_seed(26)
fmap = torch.randn(4, 5, 6, 6, requires_grad=True)
head = torch.randn(5, 3, requires_grad=True)
pooled = fmap.mean((2, 3))  # (4, 5)
out = pooled @ head
loss = out.exp().mean()
loss.backward()

out_grad = out.exp() / out.numel()
head_grad = pooled.T @ out_grad
pooled_grad = out_grad @ head.T
fmap_grad = (pooled_grad / 36)[:, :, None, None].expand(4, 5, 6, 6)
print(torch.allclose(head_grad, head.grad), torch.allclose(fmap_grad, fmap.grad))
