# Triplet loss with the hardest negative of the batch (FaceNet), distances by hand.
import torch

torch.manual_seed(8)
n, d_in, d_out, margin = 12, 7, 4, 0.5
anchors = torch.randn(n, d_in)
positives = anchors + 0.3 * torch.randn(n, d_in)
W = torch.randn(d_in, d_out, requires_grad=True)
b = torch.randn(d_out, requires_grad=True)


def embed(x):
    z = torch.tanh(x @ W + b)
    return z / z.norm(dim=1, keepdim=True)


ea = embed(anchors)
ep = embed(positives)
dist = ((ea[:, None, :] - ep[None, :, :]) ** 2).sum(-1)
pos = dist.diagonal()
neg = (dist + 1e6 * torch.eye(n)).min(dim=1).values
loss = torch.clamp(pos - neg + margin, min=0).mean()
