import torch

torch.manual_seed(16)
N, C, H, W, G = 2, 6, 3, 3, 3
x = torch.randn(N, C, H, W, requires_grad=True)
weight = torch.randn(1, C, 1, 1, requires_grad=True)
bias = torch.randn(1, C, 1, 1, requires_grad=True)
up = torch.randn(N, C, H, W)

xg = x.reshape(N, G, -1)  # (N, G, C / G * H * W)
mean = xg.mean(-1, keepdim=True)
std = (xg.var(-1, unbiased=False, keepdim=True) + 1e-5).sqrt()
xhat_g = (xg - mean) / std
xhat = xhat_g.reshape(N, C, H, W)
out = xhat * weight + bias
loss = (out * up).sum()
loss.backward()

dout = up
dweight = (dout * xhat).sum((0, 2, 3), keepdim=True)
dbias = dout  # HG201
dxhat = dout * weight
dxhat_g = dxhat.reshape(N, G, -1)
m = xhat_g.shape[-1]
dxg = (dxhat_g - dxhat_g.sum(-1, keepdim=True) / m - xhat_g * (dxhat_g * xhat_g).sum(-1, keepdim=True) / m) / std
dx = dxg.reshape(x.shape)
print(torch.allclose(dweight, weight.grad, atol=1e-5), torch.allclose(dbias, bias.grad, atol=1e-5))
print(torch.allclose(dx, x.grad, atol=1e-5))
