import torch

torch.manual_seed(41)
x = torch.rand(14, 10)
W = (torch.randn(10, 4) * 0.3).requires_grad_()
bh = torch.zeros(4, requires_grad=True)
bx = torch.zeros(10, requires_grad=True)

code = torch.sigmoid(x @ W + bh)
recon = torch.sigmoid(code @ W.T + bx)
loss = ((recon - x) ** 2).sum(1).mean()
code.retain_grad()
recon.retain_grad()
loss.backward()

drecon = 2 * recon - x / x.shape[0]  # HG221
dout = drecon * recon * (1 - recon)
dbx = dout.sum(0)
dW_decoder = dout.T @ code  # (10, 4)
dcode = dout @ W
dhid = dcode * code * (1 - code)
dbh = dhid.sum(0)
dW_encoder = x.T @ dhid
dW = dW_encoder + dW_decoder
for name, mine, t in [("recon", drecon, recon), ("bx", dbx, bx), ("code", dcode, code), ("bh", dbh, bh), ("W", dW, W)]:
    print(f"{name:6} {torch.allclose(mine, t.grad, atol=1e-6)}")
