# Two layers of graph convolution on an edge list: messages are gathered, and added to their targets by index_add.
import torch
import torch.nn.functional as F

torch.manual_seed(17)
nodes, edges, feats, hidden, classes = 12, 40, 5, 8, 3
src, dst = torch.randint(nodes, (2, edges))
x = torch.randn(nodes, feats)
labels = torch.randint(classes, (nodes,))
train = torch.arange(nodes) < 8
deg = torch.zeros(nodes).index_add(0, dst, torch.ones(edges)).clamp(min=1)
W1 = (torch.randn(feats, hidden) * 0.4).requires_grad_()
W2 = (torch.randn(hidden, classes) * 0.4).requires_grad_()


def conv(h, W):
    msg = (h @ W)[src]
    out = torch.zeros(nodes, W.shape[1]).index_add(0, dst, msg)
    return out / deg[:, None]


h = F.elu(conv(x, W1))
scores = conv(h, W2)
logp = F.log_softmax(scores, dim=1)
loss = F.nll_loss(logp[train], labels[train])
