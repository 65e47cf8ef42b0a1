# cs231n style: dhidden[hidden <= 0] = 0
import torch

torch.manual_seed(6)
N, D, H, K, reg = 30, 2, 20, 3, 1e-3
X = torch.randn(N, D)
y = torch.randint(0, K, (N,))
W = 0.5 * torch.randn(D, H)
b = torch.zeros(1, H) + 0.1
W2 = 0.5 * torch.randn(H, K)
b2 = torch.zeros(1, K)
step_size = 1.0

for i in range(10000):
    hidden_layer = torch.maximum(torch.zeros(1), X @ W + b)
    scores = hidden_layer @ W2 + b2
    exp_scores = torch.exp(scores)
    probs = exp_scores / exp_scores.sum(1, keepdim=True)
    correct_logprobs = -torch.log(probs[range(N), y])
    data_loss = correct_logprobs.sum() / N
    reg_loss = 0.5 * reg * (W * W).sum() + 0.5 * reg * (W2 * W2).sum()
    loss = data_loss + reg_loss

    dscores = probs.clone()
    dscores[range(N), y] -= 1
    dscores /= N
    dW2 = hidden_layer.T @ dscores
    db2 = dscores.sum(0, keepdim=True)
    dhidden_layer = dscores @ W2.T
    dhidden = dhidden_layer.clone()
    dhidden[hidden_layer <= 0] = 0
    dW = X.T @ dhidden
    db = dhidden.sum(0, keepdim=True)
    dW2 += reg * W2
    dW = reg * W  # HG209

    W += -step_size * dW
    b += -step_size * db
    W2 += -step_size * dW2
    b2 += -step_size * db2
    if i >= 5:
        break
print(loss.item())
