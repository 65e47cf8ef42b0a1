import torch

torch.manual_seed(49)
V, E, B, K = 18, 5, 8, 4
W_in = torch.randn(V, E) * 0.3
W_out = torch.randn(V, E) * 0.3
center = torch.randint(0, V, (B,))
context = torch.randint(0, V, (B,))
negative = torch.randint(0, V, (B, K))

for it in range(3):
    vc = W_in[center]  # (B, E)
    uo = W_out[context]
    uk = W_out[negative]  # (B, K, E)
    pos = (vc * uo).sum(1)
    neg = torch.einsum("be,bke->bk", vc, uk)
    loss = -(torch.sigmoid(pos).log().sum() + torch.sigmoid(-neg).log().sum()) / B

    dpos = torch.sigmoid(pos) - 1  # HG214
    dneg = torch.sigmoid(neg) / B
    dvc = dpos[:, None] * uo + torch.einsum("bk,bke->be", dneg, uk)
    duo = dpos[:, None] * vc
    duk = dneg[:, :, None] * vc[:, None, :]
    dW_in = torch.zeros_like(W_in)
    dW_in.index_add_(0, center, dvc)
    dW_out = torch.zeros_like(W_out)
    dW_out.index_add_(0, context, duo)
    dW_out[negative] += duk  # HG210
    W_in -= dW_in
    W_out -= dW_out
    print(it, loss.item())
