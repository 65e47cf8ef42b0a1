# Feed-forward of a Llama layer: RMSNorm, SwiGLU, residual; next-token loss with tied embeddings.
import torch
import torch.nn.functional as F

torch.manual_seed(12)
B, T, C, FF, V = 2, 5, 8, 20, 11
tokens = torch.randint(V, (B, T + 1))
wte = torch.randn(V, C, requires_grad=True)
norm_w = torch.ones(C, requires_grad=True)
w_gate = (torch.randn(C, FF) / 3).requires_grad_()
w_up = (torch.randn(C, FF) / 3).requires_grad_()
w_down = (torch.randn(FF, C) / 4).requires_grad_()
final_w = torch.ones(C, requires_grad=True)


def rmsnorm(x, weight, eps=1e-6):
    return x * torch.rsqrt(x.pow(2).mean(-1, keepdim=True) + eps) * weight


x = wte[tokens[:, :-1]]
h = rmsnorm(x, norm_w)
x = x + (F.silu(h @ w_gate) * (h @ w_up)) @ w_down
x = rmsnorm(x, final_w)
logits = x @ wte.T
loss = F.cross_entropy(logits.view(-1, V), tokens[:, 1:].reshape(-1))
