"""A gated recurrent unit; its states are stacked and read together."""

import torch
import torch.nn.functional as F


def inputs():
    g = torch.Generator().manual_seed(4)
    shapes = (5, 6), (6, 6), (6,), (5, 6), (6, 6), (6,), (5, 6), (6, 6), (6,), (6, 4)
    parameters = [(torch.randn(shape, generator=g) * 0.4).requires_grad_() for shape in shapes]
    return [torch.randn((3, 4, 5), generator=g), torch.randint(0, 4, (3, 4), generator=g), *parameters]


def forward(X, Y, Wz, Uz, bz, Wr, Ur, br, Wc, Uc, bc, Wy):
    n, T = Y.shape
    h = torch.zeros(n, 6)
    states = []
    for t in range(T):
        x = X[:, t]
        z = torch.sigmoid(x @ Wz + h @ Uz + bz)
        r = torch.sigmoid(x @ Wr + h @ Ur + br)
        c = torch.tanh(x @ Wc + (r * h) @ Uc + bc)
        h = (1 - z) * h + z * c
        states.append(h)
    H = torch.stack(states, dim=1)
    logits = H @ Wy
    loss = F.cross_entropy(logits.view(n * T, -1), Y.view(-1))
    return loss

# -- derived


def forward_and_backward(X, Y, Wz, Uz, bz, Wr, Ur, br, Wc, Uc, bc, Wy):
    n, T = Y.shape
    h = torch.zeros(n, 6)
    states = []
    for t in range(T):
        x = X[:, t]
        z = torch.sigmoid(x @ Wz + h @ Uz + bz)
        r = torch.sigmoid(x @ Wr + h @ Ur + br)
        c = torch.tanh(x @ Wc + (r * h) @ Uc + bc)
        h = (1 - z) * h + z * c
        states.append(h)
    H = torch.stack(states, dim=1)
    logits = H @ Wy
    loss = F.cross_entropy(logits.view(n * T, -1), Y.view(-1))

    # the loop again, to keep what its backward reads
    c_at, z_at, h_prev_at, r_at, x_at = {}, {}, {}, {}, {}
    h = torch.zeros(n, 6)
    for t in range(T):
        h_prev_at[t] = h
        x = X[:, t]
        z = torch.sigmoid(x @ Wz + h @ Uz + bz)
        r = torch.sigmoid(x @ Wr + h @ Ur + br)
        c = torch.tanh(x @ Wc + (r * h) @ Uc + bc)
        h = (1 - z) * h + z * c
        c_at[t] = c
        z_at[t] = z
        r_at[t] = r
        x_at[t] = x

    # loss = F.cross_entropy(logits.view(n * T, -1), Y.view(-1))
    dloss_in = (F.softmax(logits.view(n * T, -1), 1) - F.one_hot(Y.view(-1), Wy.shape[1])) / Y.view(-1).numel()  # (12, 4)
    dlogits = dloss_in.reshape(logits.shape)  # (n, 4, 4)
    # logits = H @ Wy
    dH = dlogits @ Wy.T  # (n, 4, 6)
    dWy = H.reshape(-1, H.shape[2]).T @ dlogits.reshape(-1, logits.shape[2])  # (6, 4)
    dWz = torch.zeros_like(Wz)  # (5, 6)
    dUz = torch.zeros_like(Uz)  # (6, 6)
    dbz = torch.zeros_like(bz)  # (6,)
    dWr = torch.zeros_like(Wr)  # (5, 6)
    dUr = torch.zeros_like(Ur)  # (6, 6)
    dbr = torch.zeros_like(br)  # (6,)
    dWc = torch.zeros_like(Wc)  # (5, 6)
    dUc = torch.zeros_like(Uc)  # (6, 6)
    dbc = torch.zeros_like(bc)  # (6,)
    dh = torch.zeros_like(h)  # (n, 6)
    for t in reversed(range(T)):
        c, z, h_prev, r, x = c_at[t], z_at[t], h_prev_at[t], r_at[t], x_at[t]
        # H = torch.stack(states, dim=1)
        dh += dH[:, t]  # (n, 6)
        # h = (1 - z) * h + z * c
        dz = c * dh  # (n, 6)
        dc = z * dh  # (n, 6)
        dh_prev = (1 - z) * dh  # (n, 6)
        dz -= h_prev * dh  # (n, 6)
        # c = torch.tanh(x @ Wc + (r * h) @ Uc + bc)
        dc_in = (1.0 - c**2) * dc  # (n, 6)
        dbc += dc_in.sum(0)  # (6,)
        dUc += (r * h_prev).T @ dc_in  # (6, 6)
        dc_in_1 = dc_in @ Uc.T  # (n, 6)
        dr = h_prev * dc_in_1  # (n, 6)
        dh_prev += r * dc_in_1  # (n, 6)
        dWc += x.T @ dc_in  # (5, 6)
        # r = torch.sigmoid(x @ Wr + h @ Ur + br)
        dr_in = r * (1.0 - r) * dr  # (n, 6)
        dbr += dr_in.sum(0)  # (6,)
        dh_prev += dr_in @ Ur.T  # (n, 6)
        dUr += h_prev.T @ dr_in  # (6, 6)
        dWr += x.T @ dr_in  # (5, 6)
        # z = torch.sigmoid(x @ Wz + h @ Uz + bz)
        dz_in = z * (1.0 - z) * dz  # (n, 6)
        dbz += dz_in.sum(0)  # (6,)
        dh_prev += dz_in @ Uz.T  # (n, 6)
        dUz += h_prev.T @ dz_in  # (6, 6)
        dWz += x.T @ dz_in  # (5, 6)
        dh = dh_prev
    return locals()
