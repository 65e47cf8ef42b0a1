# min-char-rnn: backpropagation through time, dhnext from the step after
import torch

torch.manual_seed(19)
text = "hello world"
chars = sorted(set(text))
ch = {c: i for i, c in enumerate(chars)}
V, H = len(chars), 10
Wxh = torch.randn(H, V) * 0.1
Whh = torch.randn(H, H) * 0.1
Why = torch.randn(V, H) * 0.1
bh = torch.zeros(H, 1)
by = torch.zeros(V, 1)
inputs = [ch[c] for c in text[:-1]]
targets = [ch[c] for c in text[1:]]


def lossFun(inputs, targets, hprev):
    xs, hs, ys, ps = {}, {}, {}, {}
    hs[-1] = hprev
    loss = 0
    for t in range(len(inputs)):
        xs[t] = torch.zeros(V, 1)
        xs[t][inputs[t]] = 1
        hs[t] = torch.tanh(Wxh @ xs[t] + Whh @ hs[t - 1] + bh)
        ys[t] = Why @ hs[t] + by
        ps[t] = torch.exp(ys[t]) / torch.sum(torch.exp(ys[t]))
        loss = loss - torch.log(ps[t][targets[t], 0])
    dWxh, dWhh, dWhy = torch.zeros_like(Wxh), torch.zeros_like(Whh), torch.zeros_like(Why)
    dbh, dby = torch.zeros_like(bh), torch.zeros_like(by)
    dhnext = torch.zeros_like(hs[0])
    for t in reversed(range(len(inputs))):
        dy = ps[t].clone()
        dy[targets[t]] -= 1
        dWhy += dy @ hs[t].T
        dby += dy
        dh = Why.T @ dy + dhnext
        dhraw = (1 - hs[t] * hs[t]) * dh
        dbh += dhraw
        dWxh += dhraw @ xs[t].T
        dWhh += dhraw @ hs[t - 1].T
        dhnext = Whh @ dhraw  # HG215
    return loss, dWxh, dWhh, dWhy, dbh, dby, hs[len(inputs) - 1]


hprev = torch.zeros(H, 1)
for n in range(3):
    loss, dWxh, dWhh, dWhy, dbh, dby, hprev = lossFun(inputs, targets, hprev)
    for param, dparam in zip([Wxh, Whh, Why, bh, by], [dWxh, dWhh, dWhy, dbh, dby]):
        param.sub_(0.1 * dparam)
    print(n, loss.item())
