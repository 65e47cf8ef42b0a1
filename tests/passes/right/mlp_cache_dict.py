import torch

torch.manual_seed(0)
vocab, T, E, H, n = 20, 3, 4, 16, 12
params = {
    "C": torch.randn(vocab, E),
    "W1": torch.randn(T * E, H) * 0.3,
    "b1": torch.randn(H) * 0.1,
    "W2": torch.randn(H, vocab) * 0.2,
    "b2": torch.randn(vocab) * 0.1,
}


def forward(params, X, Y):
    cache = {}
    cache["emb"] = params["C"][X]
    cache["flat"] = cache["emb"].reshape(len(X), -1)
    cache["z1"] = cache["flat"] @ params["W1"] + params["b1"]
    cache["a1"] = torch.tanh(cache["z1"])
    cache["z2"] = cache["a1"] @ params["W2"] + params["b2"]
    cache["probs"] = torch.softmax(cache["z2"], dim=1)
    loss = -cache["probs"][torch.arange(len(X)), Y].log().mean()
    return loss, cache


def backward(params, cache, X, Y):
    grads = {}
    m = len(X)
    dz2 = cache["probs"].clone()  # (m, vocab)
    dz2[torch.arange(m), Y] -= 1
    dz2 /= m
    grads["W2"] = cache["a1"].T @ dz2
    grads["b2"] = dz2.sum(dim=0)
    da1 = dz2 @ params["W2"].T
    dz1 = da1 * (1 - cache["a1"].pow(2))
    grads["W1"] = cache["flat"].T @ dz1
    grads["b1"] = dz1.sum(dim=0)
    demb = (dz1 @ params["W1"].T).reshape(m, T, E)
    grads["C"] = torch.zeros_like(params["C"])
    grads["C"].index_add_(0, X.reshape(-1), demb.reshape(-1, E))
    return grads


X = torch.randint(0, vocab, (n, T))
Y = torch.randint(0, vocab, (n,))
for step in range(4):
    loss, cache = forward(params, X, Y)
    grads = backward(params, cache, X, Y)
    for name in params:
        params[name] = params[name] - 0.5 * grads[name]
    print(step, round(loss.item(), 4))
