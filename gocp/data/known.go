package data

// Remote is one file of a published data set, pinned by its hash.
type Remote struct {
	Name   string
	URLs   []string // tried in order
	Size   int64    // bytes
	SHA256 string
}

// The hashes: CIFAR's are those of the archives whose MD5 the authors publish
// (c32a1d4ab5d03f1284b67883e8d87530 and 03b5dce01913d631647c71ecec9e9cb8);
// MNIST's and Fashion-MNIST's belong to the files whose MD5 torchvision and the
// authors publish; Tiny-ImageNet's to the archive of MD5 90528d7ca1a48142e341f4ef8d21d0de.
// Several independent projects pin the same SHA-256.
var builtins = []builtin{
	{
		name:    "cifar10",
		about:   "CIFAR-10, 50,000 + 10,000 images 32×32×3, 10 classes (Krizhevsky 2009)",
		classes: cifar10Classes,
		files: []Remote{{"cifar-10-binary.tar.gz", []string{"https://www.cs.toronto.edu/~kriz/cifar-10-binary.tar.gz"}, 170052171,
			"c4a38c50a1bc5f3a1c5537f2155ab9d68f9f25eb1ed8d9ddda3db29a59bca1dd"}},
	},
	{
		name:  "cifar100",
		about: "CIFAR-100, 50,000 + 10,000 images 32×32×3, 100 classes (Krizhevsky 2009)",
		files: []Remote{{"cifar-100-binary.tar.gz", []string{"https://www.cs.toronto.edu/~kriz/cifar-100-binary.tar.gz"}, 168513733,
			"58a81ae192c23a4be8b1804d68e518ed807d710a4eb253b1f2a199162a40d8ec"}},
	},
	{
		name:  "tiny-imagenet",
		about: "Tiny-ImageNet-200, 100,000 + 10,000 images 64×64×3, 200 classes (Stanford CS231n, 2015)",
		files: []Remote{{"tiny-imagenet-200.zip", []string{"https://cs231n.stanford.edu/tiny-imagenet-200.zip", "http://cs231n.stanford.edu/tiny-imagenet-200.zip"}, 248100043,
			"6198c8ae015e2b3e007c7841da39ec069199b9aa3bfa943a462022fe5e43c821"}},
	},
	{
		name:    "mnist",
		about:   "MNIST, 60,000 + 10,000 images 28×28×1, 10 digits (LeCun, Cortes, Burges 1998)",
		classes: numbered(10),
		files: idxFiles([]string{"https://ossci-datasets.s3.amazonaws.com/mnist/", "https://storage.googleapis.com/cvdf-datasets/mnist/"},
			[4]int64{9912422, 28881, 1648877, 4542}, [4]string{
				"440fcabf73cc546fa21475e81ea370265605f56be210a4024d2ca8f203523609",
				"3552534a0a558bbed6aed32b30c495cca23d567ec52cac8be1a0730e8010255c",
				"8d422c7b0a1c1c79245a5bcf07fe86e33eeafee792b84584aec276f5a2dbc4e6",
				"f7ae60f92e00ec6debd23a6088c31dbd2371eca3ffa0defaefb259924204aec6"}),
	},
	{
		name:    "fashion-mnist",
		about:   "Fashion-MNIST, 60,000 + 10,000 images 28×28×1, 10 classes (Xiao, Rasul, Vollgraf 2017)",
		classes: []string{"T-shirt/top", "Trouser", "Pullover", "Dress", "Coat", "Sandal", "Shirt", "Sneaker", "Bag", "Ankle boot"},
		system:  "/usr/share/datasets/fashion-mnist", // Debian's dataset-fashion-mnist
		files: idxFiles([]string{"https://fashion-mnist.s3.eu-central-1.amazonaws.com/", "http://fashion-mnist.s3-website.eu-central-1.amazonaws.com/"},
			[4]int64{26421880, 29515, 4422102, 5148}, [4]string{
				"3aede38d61863908ad78613f6a32ed271626dd12800ba2636569512369268a84",
				"a04f17134ac03560a47e3764e11b92fc97de4d1bfaf8ba1a3aa29af54cc90845",
				"346e55b948d973a97e58d2351dde16a484bd415d4595297633bb08f03db6a073",
				"67da17c76eaffca5446c3361aaab5c3cd6d1c2608764d35dfb1850b086bf8dd5"}),
	},
}

// idxFiles names the four files that MNIST and its successors consist of.
func idxFiles(bases []string, sizes [4]int64, hashes [4]string) []Remote {
	var list []Remote
	for i, name := range []string{"train-images-idx3-ubyte.gz", "train-labels-idx1-ubyte.gz", "t10k-images-idx3-ubyte.gz", "t10k-labels-idx1-ubyte.gz"} {
		r := Remote{Name: name, Size: sizes[i], SHA256: hashes[i]}
		for _, b := range bases {
			r.URLs = append(r.URLs, b+name)
		}
		list = append(list, r)
	}
	return list
}
